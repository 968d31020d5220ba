//! One GET on a connection of its own: for what is asked before, or beside, the ways that are kept open.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Empty};

use super::{connect::Connector, discovery::Route};

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why nothing did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum GetError {
    /// No connection, or one that broke.
    #[error("{0}")]
    Unreachable(String),
    /// More than was wanted.
    #[error("its answer is too large")]
    TooLarge,
    /// Nothing that can be asked for.
    #[error("there is no such page")]
    NoPage,
}

/// Asks. The caller sets the time that it may take.
pub(super) async fn get(connector: &Connector, route: &Route, path: &str, limit_bytes: usize) -> Result<Answer, GetError> {
    let unreachable = |why: &dyn std::fmt::Display| GetError::Unreachable(why.to_string());
    let request = http::Request::get(path)
        .header(header::HOST, &route.host)
        .header(header::USER_AGENT, concat!("homeroom/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| GetError::NoPage)?;
    let stream = connector.connect(route).await.map_err(|error| unreachable(&error))?;
    let handshake = hyper::client::conn::http1::Builder::new().max_headers(64).handshake(stream);
    let (mut sender, connection) = handshake.await.map_err(|error| unreachable(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let (parts, mut incoming) = response.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(|error| unreachable(&error))?.into_data() else { continue };
            if body.len() + data.len() > limit_bytes {
                return Err(GetError::TooLarge);
            }
            body.extend_from_slice(&data);
        }
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.freeze() })
    };
    // The connection is driven here and dropped with us: nothing is left behind.
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            outcome = &mut exchange => return outcome,
            _ = &mut connection, if open => open = false,
        }
    }
}

/// A date as HTTP writes it today (RFC 9110, section 5.6.7).
pub(in crate::homeserver) fn http_date(text: &str) -> Option<time::PrimitiveDateTime> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let day = words.next()?.parse().ok()?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = words.next()?;
    let month = u8::try_from(months.iter().position(|name| *name == month)? + 1).ok()?;
    let year = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':');
    let (hour, minute, second) = (clock.next()?.parse().ok()?, clock.next()?.parse().ok()?, clock.next()?.parse().ok()?);
    let date = time::Date::from_calendar_date(year, time::Month::try_from(month).ok()?, day).ok()?;
    Some(time::PrimitiveDateTime::new(date, time::Time::from_hms(hour, minute, second).ok()?))
}
