//! An HTTPS server that answers as the test says, in the place of a homeserver.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

use super::federation::Certificate;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub body: Value,
}

/// A server that ends with this value. Without an answer from its handler a request waits for ever.
pub struct Https {
    _runtime: tokio::runtime::Runtime,
}

impl Https {
    /// Listens there with that certificate.
    pub fn start<F>(address: SocketAddr, certificate: &Certificate, handler: F) -> Self
    where
        F: Fn(Asked) -> Option<(u16, Value)> + Send + Sync + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let acceptor = TlsAcceptor::from(config(certificate));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let (handler, tasks) = (Arc::new(handler), runtime.handle().clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
                tasks.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&handler)));
                    // Whoever hangs up has asked all that they wanted to.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { _runtime: runtime }
    }
}

async fn answer<F>(request: http::Request<hyper::body::Incoming>, handler: Arc<F>) -> Result<http::Response<Full<Bytes>>, hyper::Error>
where
    F: Fn(Asked) -> Option<(u16, Value)>,
{
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let asked = Asked { method: parts.method.to_string(), path: parts.uri.path().to_owned(), body };
    let Some((status, body)) = handler(asked) else { return std::future::pending::<Result<_, _>>().await };
    let response = http::Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(Bytes::from(body.to_string()))).unwrap())
}

fn config(certificate: &Certificate) -> Arc<rustls::ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&certificate.chain).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}
