//! What tests of this part stand on: names that lead where the test says, and HTTPS servers with certificates of the test's.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::dns::{Dns, DnsError, Service};
use crate::base::{Shutdown, Tasks};

/// Names and what they lead to.
#[derive(Debug, Default)]
pub(crate) struct FakeDns {
    pub(crate) addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
    pub(crate) services: Mutex<HashMap<String, Vec<Service>>>,
    /// What was asked, in order.
    pub(crate) asked: Mutex<Vec<String>>,
}

impl FakeDns {
    pub(crate) fn address(&self, name: &str, address: &str) {
        let address = address.parse().expect("the test gives an address");
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().push(address);
    }

    pub(crate) fn service(&self, name: &str, priority: u16, weight: u16, target: &str, port: u16) {
        let service = Service { priority, weight, port, target: target.to_owned() };
        self.services.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().push(service);
    }

    fn note(&self, name: &str) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }
}

#[async_trait]
impl Dns for FakeDns {
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        self.note(name);
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).cloned().ok_or_else(|| DnsError::NoRecords(name.to_owned()))
    }

    async fn services(&self, name: &str) -> Result<Vec<Service>, DnsError> {
        self.note(name);
        if name.contains("broken") {
            return Err(DnsError::Failed { name: name.to_owned(), why: "SERVFAIL".to_owned() });
        }
        Ok(self.services.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default())
    }
}

/// An answer of a fake server.
pub(crate) type Answer = http::Response<Full<bytes::Bytes>>;

/// Answers with a status, headers and a body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Answer {
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(body.into())).expect("the test gives a response")
}

/// An authority, and servers with its certificates. They live as long as this.
pub(crate) struct FakeWeb {
    issuer: Issuer<'static, KeyPair>,
    dir: tempfile::TempDir,
    tasks: Tasks,
}

impl Drop for FakeWeb {
    fn drop(&mut self) {
        self.tasks.shutdown().trigger();
    }
}

impl FakeWeb {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys can be made");
        let own = params.self_signed(&key).expect("the authority signs itself");
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::write(dir.path().join("ca.pem"), own.pem()).expect("the file can be written");
        Self { issuer: Issuer::new(params, key), dir, tasks: Tasks::new(Shutdown::new()) }
    }

    /// The file to trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Starts a server on a port of its own with a certificate for these names.
    pub(crate) async fn serve<F, Fut>(&self, names: &[&str], handler: F) -> SocketAddr
    where
        F: Fn(http::Request<bytes::Bytes>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send,
    {
        self.serve_at("127.0.0.1", names, handler).await
    }

    /// The same at an address of the test's choice.
    pub(crate) async fn serve_at<F, Fut>(&self, at: &str, names: &[&str], handler: F) -> SocketAddr
    where
        F: Fn(http::Request<bytes::Bytes>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send,
    {
        let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("the test gives names");
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("key and certificate belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind((at, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (tasks, shutdown) = (self.tasks.clone(), self.tasks.shutdown().clone());
        self.tasks.spawn("fake-server", async move {
            loop {
                let accepted = tokio::select! {
                    () = shutdown.wait() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (acceptor, handler, shutdown) = (acceptor.clone(), handler.clone(), shutdown.clone());
                tasks.spawn("fake-connection", async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let handler = handler.clone();
                        async move {
                            use http_body_util::BodyExt as _;
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            Ok::<_, hyper::Error>(handler(http::Request::from_parts(parts, body)).await)
                        }
                    });
                    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        () = shutdown.wait() => {}
                        _ = connection => {}
                    }
                });
            }
        });
        address
    }
}
