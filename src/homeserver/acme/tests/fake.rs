//! A certificate authority for tests: it checks what it is sent as a real one does, and really connects to look for proofs.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::homeserver::{
    acme::Challenge,
    federation::testing::{Answer, FakeWeb, answer},
    tls,
};

/// A refusal: status, kind, `Retry-After`.
pub(super) type Refusal = (u16, &'static str, Option<&'static str>);

/// What the authority does and remembers.
#[derive(Debug, Default)]
pub(super) struct Book {
    nonces: HashSet<String>,
    made: usize,
    accounts: HashMap<String, String>,
    orders: Vec<Order>,
    /// Signed requests, as paths.
    pub(super) asked: Vec<String>,
    /// Good nonces that are refused nevertheless.
    pub(super) refuse_nonces: usize,
    /// What every order is answered with.
    pub(super) refuse_orders: Option<Refusal>,
    /// The proof that is offered.
    pub(super) offers: Option<Challenge>,
    /// Where the names' addresses lead.
    pub(super) looks_at: Option<SocketAddr>,
    /// From which year to which certificates are valid.
    pub(super) years: Option<(i32, i32)>,
    /// What the contact of the last new account was.
    pub(super) contact: Option<Value>,
}

#[derive(Debug, Default)]
struct Order {
    domains: Vec<String>,
    /// By domain: how often it is still said that the proof is being looked for, and what came of it.
    proven: HashMap<String, (usize, Result<(), &'static str>)>,
    looks: usize,
    certificate: Option<String>,
}

/// The authority.
pub(super) struct FakeAuthority {
    web: FakeWeb,
    address: SocketAddr,
    root: CertificateDer<'static>,
    book: Arc<Mutex<Book>>,
    /// Orders are answered while there are permits.
    pub(super) open: Arc<Semaphore>,
}

struct Point([u8; 65]);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[derive(Clone)]
struct Desk {
    book: Arc<Mutex<Book>>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    root_pem: String,
    open: Arc<Semaphore>,
}

impl FakeAuthority {
    pub(super) async fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let (book, open) = (Arc::<Mutex<Book>>::default(), Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)));
        let desk =
            Desk { book: Arc::clone(&book), issuer: Arc::new(Issuer::new(params, key)), root_pem: root.pem(), open: Arc::clone(&open) };
        let web = FakeWeb::new();
        let address = web.serve(&["127.0.0.1"], move |request| desk.clone().answer(request)).await;
        Self { web, address, root: root.der().clone(), book, open }
    }

    pub(super) fn directory(&self) -> String {
        format!("https://{}/directory", self.address)
    }

    /// The authority of the authority's own certificate.
    pub(super) fn ca(&self) -> std::path::PathBuf {
        self.web.ca()
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects as somebody who trusts this authority.
    pub(super) async fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(tls::provider())).with_safe_default_protocol_versions().unwrap();
        connect(config.with_root_certificates(roots).with_no_client_auth(), address, name).await
    }
}

async fn connect(config: ClientConfig, address: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// What is shown to an authority that looks: the certificate, if any.
pub(super) async fn proof_at(address: SocketAddr, name: &str) -> std::io::Result<CertificateDer<'static>> {
    let config = ClientConfig::builder_with_provider(Arc::new(tls::provider())).with_safe_default_protocol_versions().unwrap();
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anything)).with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let stream = connect(config, address, name).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"acme-tls/1".as_slice()));
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone())
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nonce(&self) -> String {
        let mut book = self.book();
        book.made += 1;
        let nonce = format!("nonce{}", book.made);
        book.nonces.insert(nonce.clone());
        nonce
    }

    fn told(&self, status: u16, headers: &[(&str, &str)], body: &Value) -> Answer {
        let nonce = self.nonce();
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain([("replay-nonce", nonce.as_str())]).collect();
        answer(status, &headers, body.to_string())
    }

    fn refused(&self, (status, kind, retry_after): Refusal) -> Answer {
        let headers: Vec<(&str, &str)> = retry_after.map(|after| ("retry-after", after)).into_iter().collect();
        self.told(status, &headers, &json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "so it is" }))
    }

    async fn answer(self, request: http::Request<bytes::Bytes>) -> Answer {
        let base = format!("https://{}", request.headers()["host"].to_str().unwrap());
        let path = request.uri().path().to_owned();
        match (request.method().as_str(), path.as_str()) {
            ("GET", "/directory") => {
                let url = |path: &str| format!("{base}/{path}");
                answer(200, &[], json!({ "newNonce": url("nonce"), "newAccount": url("account"), "newOrder": url("order") }).to_string())
            }
            ("HEAD", "/nonce") => self.told(200, &[], &Value::Null),
            ("POST", _) => self.signed(&base, &path, &request).await,
            _ => answer(405, &[], ""),
        }
    }

    async fn signed(&self, base: &str, path: &str, request: &http::Request<bytes::Bytes>) -> Answer {
        assert_eq!(request.headers()["content-type"], "application/jose+json");
        assert!(request.headers()["user-agent"].to_str().unwrap().starts_with("homeroom/"));
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let decoded = |field: &str| BASE64.decode(body[field].as_str().unwrap()).unwrap();
        let head: Value = serde_json::from_slice(&decoded("protected")).unwrap();
        assert_eq!((head["alg"].as_str(), head["url"].as_str()), (Some("ES256"), Some(format!("{base}{path}").as_str())));
        {
            let mut book = self.book();
            book.asked.push(path.to_owned());
            let known = book.nonces.remove(head["nonce"].as_str().unwrap());
            assert!(known, "a nonce is used once");
            if book.refuse_nonces > 0 {
                book.refuse_nonces -= 1;
                drop(book);
                return self.refused((400, "badNonce", None));
            }
        }
        let jwk = match head["kid"].as_str() {
            Some(account) => self.book().accounts.iter().find(|(_, url)| *url == account).unwrap().0.clone(),
            None => head["jwk"].to_string(),
        };
        let point: Value = serde_json::from_str(&jwk).unwrap();
        let coordinate = |name: &str| BASE64.decode(point[name].as_str().unwrap()).unwrap();
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let signed = format!("{}.{}", body["protected"].as_str().unwrap(), body["payload"].as_str().unwrap());
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        assert!(key.verify(signed.as_bytes(), &decoded("signature")).is_ok(), "the signature is right");
        let payload: Value = serde_json::from_slice(&decoded("payload")).unwrap_or(Value::Null);
        let mut parts = path.trim_start_matches('/').split('/');
        let (what, number) = (parts.next().unwrap(), parts.next().map(|number| number.parse::<usize>().unwrap()));
        let domain = parts.next().unwrap_or_default().to_owned();
        match (what, number) {
            ("account", _) => self.account(base, jwk, &payload),
            ("order", None) => self.order(base, &payload).await,
            ("order", Some(number)) => self.show_order(base, number),
            ("authorisation", Some(number)) => self.authorisation(base, number, &domain),
            ("challenge", Some(number)) => self.look(number, &domain, &jwk).await,
            ("finalize", Some(number)) => self.finalize(base, number, &payload),
            ("certificate", Some(number)) => {
                let chain = self.book().orders[number].certificate.clone().unwrap();
                let nonce = self.nonce();
                answer(200, &[("replay-nonce", &nonce), ("content-type", "application/pem-certificate-chain")], chain)
            }
            _ => panic!("nobody asks for {path}"),
        }
    }

    fn account(&self, base: &str, jwk: String, payload: &Value) -> Answer {
        assert_eq!(payload["termsOfServiceAgreed"], true);
        let (url, status) = {
            let mut book = self.book();
            book.contact = payload.get("contact").cloned();
            let next = format!("{base}/account/{}", book.accounts.len());
            let status = if book.accounts.contains_key(&jwk) { 200 } else { 201 };
            (book.accounts.entry(jwk).or_insert(next).clone(), status)
        };
        self.told(status, &[("location", &url)], &json!({ "status": "valid" }))
    }

    async fn order(&self, base: &str, payload: &Value) -> Answer {
        let _open = self.open.acquire().await.unwrap();
        let refused = self.book().refuse_orders;
        if let Some(refused) = refused {
            return self.refused(refused);
        }
        let domains = payload["identifiers"].as_array().unwrap().iter().map(|wanted| wanted["value"].as_str().unwrap().to_owned());
        let number = {
            let mut book = self.book();
            book.orders.push(Order { domains: domains.collect(), ..Order::default() });
            book.orders.len() - 1
        };
        let url = format!("{base}/order/{number}");
        self.told(201, &[("location", &url)], &self.order_body(base, number))
    }

    fn order_body(&self, base: &str, number: usize) -> Value {
        let book = self.book();
        let order = &book.orders[number];
        let proven = |domain: &String| order.proven.get(domain).is_some_and(|(_, outcome)| outcome.is_ok());
        let status = match &order.certificate {
            // The first look comes too early.
            Some(_) if order.looks < 2 => "processing",
            Some(_) => "valid",
            None if order.domains.iter().all(proven) => "ready",
            None => "pending",
        };
        let authorisations: Vec<_> = order.domains.iter().map(|domain| format!("{base}/authorisation/{number}/{domain}")).collect();
        let mut body = json!({ "status": status, "authorizations": authorisations, "finalize": format!("{base}/finalize/{number}") });
        if status == "valid" {
            body["certificate"] = format!("{base}/certificate/{number}").into();
        }
        body
    }

    fn show_order(&self, base: &str, number: usize) -> Answer {
        {
            let mut book = self.book();
            let order = &mut book.orders[number];
            order.looks += usize::from(order.certificate.is_some());
        }
        self.told(200, &[("retry-after", "0")], &self.order_body(base, number))
    }

    fn authorisation(&self, base: &str, number: usize, domain: &str) -> Answer {
        let body = {
            let mut book = self.book();
            let kind = book.offers.map_or("dns-01", Challenge::name);
            let (status, error) = match book.orders[number].proven.get_mut(domain) {
                None => ("pending", None),
                Some((left, _)) if *left > 0 => {
                    *left -= 1;
                    ("pending", None)
                }
                Some((_, Ok(()))) => ("valid", None),
                Some((_, Err(kind))) => ("invalid", Some(*kind)),
            };
            let mut challenge = json!({ "type": kind, "url": format!("{base}/challenge/{number}/{domain}"), "token": token(number) });
            if let Some(kind) = error {
                challenge["error"] = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "so it is" });
            }
            json!({ "identifier": { "type": "dns", "value": domain }, "status": status, "challenges": [challenge] })
        };
        self.told(200, &[("retry-after", "0")], &body)
    }

    /// Looks for the proof where the name leads.
    async fn look(&self, number: usize, domain: &str, jwk: &str) -> Answer {
        let jwk: Value = serde_json::from_str(jwk).unwrap();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        let wanted = format!("{}.{}", token(number), BASE64.encode(Sha256::digest(canonical)));
        let at = self.book().looks_at.unwrap();
        let offers = self.book().offers.unwrap();
        let outcome = match offers {
            Challenge::TlsAlpn01 => match proof_at(at, domain).await {
                Ok(shown) if proves(&shown, domain, &wanted) => Ok(()),
                Ok(_) => Err("unauthorized"),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err("connection"),
                Err(_) => Err("tls"),
            },
            Challenge::Http01 => {
                let url = format!("http://{at}/.well-known/acme-challenge/{}", token(number));
                match reqwest::Client::new().get(url).header("host", domain).send().await {
                    Ok(page) => {
                        if page.text().await.unwrap() == wanted {
                            Ok(())
                        } else {
                            Err("unauthorized")
                        }
                    }
                    Err(_) => Err("connection"),
                }
            }
        };
        self.book().orders[number].proven.insert(domain.to_owned(), (1, outcome));
        self.told(200, &[], &json!({ "status": "processing" }))
    }

    fn finalize(&self, base: &str, number: usize, payload: &Value) -> Answer {
        let csr = BASE64.decode(payload["csr"].as_str().unwrap()).unwrap();
        // A P-256 key in a request: its algorithm, and the length of the point.
        let head = [&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07][..], &[0x03, 0x42, 0x00]].concat();
        let at = csr.windows(head.len()).position(|window| window == head).unwrap() + head.len();
        let point = Point(csr[at..at + 65].try_into().unwrap());
        {
            let mut book = self.book();
            let (from, until) = book.years.unwrap_or((2020, 2050));
            let order = &mut book.orders[number];
            for domain in &order.domains {
                assert!(csr.windows(domain.len()).any(|window| window == domain.as_bytes()), "the request names {domain}");
            }
            let mut params = CertificateParams::new(order.domains.clone()).unwrap();
            (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
            let certificate = params.signed_by(&point, &*self.issuer).unwrap();
            order.certificate = Some(format!("{}{}", certificate.pem(), self.root_pem));
        }
        self.told(200, &[], &self.order_body(base, number))
    }
}

fn token(number: usize) -> String {
    format!("token-{number}_of-the-authority")
}

/// RFC 8737, section 3: for the name alone, critical, with the digest.
fn proves(shown: &CertificateDer<'_>, domain: &str, wanted: &str) -> bool {
    let extension = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f, 0x01, 0x01, 0xff, 0x04, 0x22, 0x04, 0x20];
    let wanted = [&extension[..], &Sha256::digest(wanted)].concat();
    let holds = |part: &[u8]| shown.windows(part.len()).any(|window| window == part);
    holds(&wanted) && holds(domain.as_bytes())
}

/// An authority does not ask who vouches for a proof. (And what checks signatures here refuses to read the certificate at all:
/// its extension is critical and unknown to it.)
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
