//! The account pages: what a user does with the account itself, in a browser (Client-Server API, "OAuth 2.0 API", "Account
//! management"). What cannot be undone asks for the password again.

use axum::response::Response;
use http::{Method, StatusCode};
use ruma::{OwnedDeviceId, OwnedUserId};
use url::form_urlencoded;

use super::{
    account_forms,
    page::{Page, button, done, esc, problem, redirect},
    providers::{self, Reason},
    sign_in,
    visit::Visit,
};
use crate::homeserver::{
    api::{client::account::close_account, error::ApiResult},
    store::{self, devices::Device},
    types::UserNid,
    users::oauth::ClientMetadata,
};

/// What somebody came for. The first name is the specification's, the others are those that clients used before.
const ACTIONS: [(Action, &[&str]); 7] = [
    (Action::Profile, &["org.matrix.profile", "profile"]),
    (Action::Devices, &["org.matrix.devices_list", "org.matrix.sessions_list", "sessions_list"]),
    (Action::Device, &["org.matrix.device_view", "org.matrix.session_view", "session_view"]),
    (Action::EndDevice, &["org.matrix.device_delete", "org.matrix.session_end", "session_end"]),
    (Action::Deactivate, &["org.matrix.account_deactivate", "account_deactivate"]),
    (Action::ResetKeys, &["org.matrix.cross_signing_reset"]),
    (Action::Password, &["homeroom.password"]),
];

/// Those that are advertised: all but our own.
pub(super) fn advertised() -> Vec<&'static str> {
    ACTIONS
        .iter()
        .filter(|(action, _)| *action != Action::Password)
        .flat_map(|(_, names)| names.iter().copied())
        .filter(|name| name.starts_with("org."))
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Overview,
    Profile,
    Devices,
    Device,
    EndDevice,
    Deactivate,
    ResetKeys,
    Password,
}

/// Somebody who is signed in to the pages.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) user: UserNid,
    pub(super) user_id: OwnedUserId,
    pub(super) cookie: String,
}

/// A link to a page of ours, as HTML.
pub(super) fn link(visit: &Visit, action: Action, device: Option<&OwnedDeviceId>, text: &str) -> String {
    let name = ACTIONS.iter().find(|(known, _)| *known == action).and_then(|(_, names)| names.first());
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(name) = name {
        query.append_pair("action", name);
    }
    if let Some(device) = device {
        query.append_pair("device_id", device.as_str());
    }
    let query = query.finish();
    let joint = if query.is_empty() { "" } else { "?" };
    format!("<a href=\"{}\">{}</a>", esc(&format!("{}{joint}{query}", visit.url(super::ACCOUNT))), esc(text))
}

/// `GET` and `POST` of the account management URI.
pub(super) async fn account(visit: Visit) -> ApiResult<Response> {
    let wanted = visit.parameter("action").unwrap_or_default();
    let action = ACTIONS.iter().find(|(_, names)| names.contains(&wanted)).map_or(Action::Overview, |(action, _)| *action);
    let Some(owner) = owner(&visit).await? else { return enter(&visit).await };
    if visit.method == Method::POST {
        if let Some(refused) = visit.refused_form() {
            return Ok(refused);
        }
        if visit.field("act") == "sign_out" {
            visit.node.accounts.oauth.browsers.sign_out(&owner.cookie);
            return Ok(Page::message(StatusCode::OK, "Signed out", "This browser is signed out of your account page.").into_response());
        }
    }
    match action {
        Action::Overview => Ok(overview(&visit, &owner)),
        Action::Profile => account_forms::profile(&visit, &owner).await,
        Action::Password => account_forms::password(&visit, &owner).await,
        Action::Devices => devices(&visit, &owner).await,
        Action::Device => device(&visit, &owner).await,
        Action::EndDevice => end_device(&visit, &owner).await,
        Action::Deactivate => deactivate(&visit, &owner).await,
        Action::ResetKeys => account_forms::reset_keys(&visit, &owner).await,
    }
}

/// Who is signed in with this browser, if the account is still open.
async fn owner(visit: &Visit) -> ApiResult<Option<Owner>> {
    let Some(cookie) = visit.cookie.clone() else { return Ok(None) };
    let Some(user) = visit.node.accounts.oauth.browsers.user(&cookie) else { return Ok(None) };
    let user_id = visit.node.accounts.user_id(user).await?;
    let open = visit.node.accounts.account(&user_id).await?.is_some_and(|account| !account.deactivated && !account.locked);
    Ok(open.then_some(Owner { user, user_id, cookie }))
}

/// The way in.
async fn enter(visit: &Visit) -> ApiResult<Response> {
    let mut error = None;
    let checked = match (visit.method == Method::POST, sign_in::take_proof(visit)) {
        // Back from a provider: to come back was what the person wanted.
        (_, Some(proof)) => Some(sign_in::proven(visit, proof).await?),
        (true, None) => match visit.refused_form() {
            Some(refused) => return Ok(refused),
            None => Some(sign_in::check(visit).await?),
        },
        (false, None) => None,
    };
    match checked {
        Some(Ok((_, user))) => {
            let mut response = redirect(&visit.url(&visit.here));
            visit.set_cookie(&mut response, &visit.node.accounts.oauth.browsers.sign_in(user));
            return Ok(response);
        }
        Some(Err(why)) => error = Some(why),
        None => {}
    }
    let cookie = visit.cookie_or_new();
    let form = sign_in::who_inputs(visit, visit.field("user")) + button("sign_in", "Sign in", "").as_str();
    let intro =
        format!("<p>Sign in to see and change your account on <strong>{}</strong>.</p>", esc(visit.node.config.server_name.as_str()));
    let body = problem(error.as_deref())
        + intro.as_str()
        + visit.form_html(&cookie, &form).as_str()
        + providers::all_ways(visit, &cookie).as_str();
    let status = if error.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    Ok(visit.answer(Page::new("Your account", body).status(status), &cookie))
}

/// A page with the way back to the others.
pub(super) fn page(visit: &Visit, owner: &Owner, title: &str, body: &str) -> Page {
    let back = link(visit, Action::Overview, None, "Your account");
    Page::new(title, format!("{body}<p class=\"soft\">{} · {back}</p>", esc(owner.user_id.as_str())))
}

fn overview(visit: &Visit, owner: &Owner) -> Response {
    let links = [
        (Action::Profile, "Your profile"),
        (Action::Devices, "Your sessions"),
        (Action::Password, "Change your password"),
        (Action::Deactivate, "Close your account"),
    ];
    let links: String = links.iter().map(|(action, text)| format!("<li>{}</li>", link(visit, *action, None, text))).collect();
    let out = visit.form_html(&owner.cookie, &button("sign_out", "Sign out of this page", "quiet"));
    let body = format!("<p>You are <strong>{}</strong>.</p><ul>{links}</ul>{out}", esc(owner.user_id.as_str()));
    visit.answer(Page::new("Your account", body), &owner.cookie)
}

/// A device with the client that was allowed to use it, where it came by OAuth.
struct Session {
    device: Device,
    client: Option<ClientMetadata>,
}

impl Session {
    fn name(&self) -> String {
        let client = self.client.as_ref().map(|client| client.shown_name().to_owned());
        self.device
            .display_name
            .clone()
            .or(client)
            .filter(|name| !name.trim().is_empty())
            .unwrap_or_else(|| self.device.device_id.to_string())
    }

    fn details(&self) -> String {
        let row = |name: &str, value: &str| format!("<dt>{name}</dt><dd>{}</dd>", esc(value));
        let mut rows = row("Session", self.device.device_id.as_str());
        if let Some(client) = &self.client {
            rows += row("App", &format!("{} ({})", client.shown_name(), client.host())).as_str();
        }
        if let Some(seen) = self.device.last_seen_ms.and_then(date) {
            rows += row("Last seen", &seen).as_str();
        }
        if let Some(ip) = &self.device.last_seen_ip {
            rows += row("From", ip).as_str();
        }
        format!("<dl>{rows}</dl>")
    }
}

/// A time for people, in UTC: we do not know where the browser is.
fn date(ms: i64) -> Option<String> {
    let time = time::OffsetDateTime::from_unix_timestamp(ms / 1000).ok()?;
    let form = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    time.format(form).ok()
}

async fn sessions(visit: &Visit, user: UserNid) -> ApiResult<Vec<Session>> {
    let found = visit.node.store.read(move |db| {
        let mut clients = store::oauth::clients_of(db, user)?;
        let devices = store::devices::list(db, user)?.into_iter().map(|device| {
            let place = clients.iter().position(|(id, _)| *id == device.device_id);
            let client = place.map(|place| clients.swap_remove(place).1).and_then(|json| serde_json::from_str(&json).ok());
            Session { device, client }
        });
        Ok::<_, store::StoreError>(devices.collect::<Vec<_>>())
    });
    let mut found = found.await?;
    found.sort_by_key(|session| std::cmp::Reverse(session.device.last_seen_ms));
    Ok(found)
}

async fn devices(visit: &Visit, owner: &Owner) -> ApiResult<Response> {
    let rows: String = sessions(visit, owner.user)
        .await?
        .iter()
        .map(|session| {
            let seen =
                session.device.last_seen_ms.and_then(date).map(|date| format!(" <span class=\"soft\">{date}</span>")).unwrap_or_default();
            format!("<li>{}{seen}</li>", link(visit, Action::Device, Some(&session.device.device_id), &session.name()))
        })
        .collect();
    let body = if rows.is_empty() { "<p>No device is signed in.</p>".to_owned() } else { format!("<ul>{rows}</ul>") };
    Ok(visit.answer(page(visit, owner, "Your sessions", &body), &owner.cookie))
}

async fn chosen(visit: &Visit, owner: &Owner) -> ApiResult<Result<Session, Response>> {
    let wanted = visit.parameter("device_id").unwrap_or_default();
    let found = sessions(visit, owner.user).await?.into_iter().find(|session| session.device.device_id == wanted);
    Ok(found.ok_or_else(|| {
        let text = format!("<p>You have no such session.</p><p>{}</p>", link(visit, Action::Devices, None, "Your sessions"));
        visit.answer(page(visit, owner, "No such session", &text).status(StatusCode::NOT_FOUND), &owner.cookie)
    }))
}

async fn device(visit: &Visit, owner: &Owner) -> ApiResult<Response> {
    let session = match chosen(visit, owner).await? {
        Ok(session) => session,
        Err(missing) => return Ok(missing),
    };
    let end = link(visit, Action::EndDevice, Some(&session.device.device_id), "End this session");
    let body = format!("{}<p>{end} · {}</p>", session.details(), link(visit, Action::Devices, None, "Your sessions"));
    Ok(visit.answer(page(visit, owner, &session.name(), &body), &owner.cookie))
}

async fn end_device(visit: &Visit, owner: &Owner) -> ApiResult<Response> {
    let session = match chosen(visit, owner).await? {
        Ok(session) => session,
        Err(missing) => return Ok(missing),
    };
    let mut error = None;
    if visit.method == Method::POST {
        match confirmed(visit, owner).await? {
            Ok(()) => {
                visit.node.accounts.delete_devices(owner.user, vec![session.device.device_id.clone()]).await?;
                let body =
                    done(&format!("{} was signed out.", session.name())) + link(visit, Action::Devices, None, "Your sessions").as_str();
                return Ok(visit.answer(page(visit, owner, "Session ended", &body), &owner.cookie));
            }
            Err(why) => error = Some(why),
        }
    }
    let form = sign_in::confirm_inputs(visit, owner.user) + button("end", "End this session", "bad").as_str();
    let body = format!(
        "{}<p>This signs the device out. Messages that only it has the keys to can no longer be read, unless they are in your key backup.</p>{}{}{}",
        problem(error.as_deref()),
        session.details(),
        visit.form_html(&owner.cookie, &form),
        ways(visit, owner).await?
    );
    Ok(visit.answer(page(visit, owner, "End a session", &body).status(status(error.as_deref())), &owner.cookie))
}

/// The ways to the providers that can confirm something in place of the password.
pub(super) async fn ways(visit: &Visit, owner: &Owner) -> ApiResult<String> {
    let providers = providers::providers_of(visit, owner.user).await?;
    Ok(providers::ways(visit, &owner.cookie, Reason::Confirm, providers.into_iter()))
}

/// The password once more, or a provider's word for this very page.
pub(super) async fn confirmed(visit: &Visit, owner: &Owner) -> ApiResult<Result<(), String>> {
    if let Some(proof) = sign_in::take_proof(visit) {
        return Ok(match (proof.user == owner.user, proof.fresh) {
            (true, true) => Ok(()),
            (true, false) => Err("The provider has to ask you anew.".into()),
            (false, _) => Err("The provider says that you are somebody else.".into()),
        });
    }
    Ok(sign_in::check_user(visit, owner.user_id.as_str())
        .await?
        .and_then(|(_, user)| if user == owner.user { Ok(()) } else { Err("This is another user's password.".into()) }))
}

/// 403 with a problem, 200 without.
pub(super) fn status(error: Option<&str>) -> StatusCode {
    if error.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK }
}

async fn deactivate(visit: &Visit, owner: &Owner) -> ApiResult<Response> {
    let mut error = None;
    if visit.method == Method::POST {
        match confirmed(visit, owner).await? {
            Ok(()) => {
                close_account(&visit.node, owner.user, &owner.user_id, visit.field("erase") == "yes").await?;
                return Ok(Page::message(
                    StatusCode::OK,
                    "Account closed",
                    "Your account has been closed, and you are signed out everywhere.",
                )
                .into_response());
            }
            Err(why) => error = Some(why),
        }
    }
    let erase = "<label class=\"check\"><input type=\"checkbox\" name=\"erase\" value=\"yes\">Hide my messages from whoever joins a room later</label>";
    let form = format!("{erase}{}{}", sign_in::confirm_inputs(visit, owner.user), button("close", "Close my account for good", "bad"));
    let body = format!(
        "{}<p class=\"note\">This cannot be undone. You leave all rooms, every session ends, and nobody can ever have the name <strong>{}</strong> again.</p>{}{}",
        problem(error.as_deref()),
        esc(owner.user_id.as_str()),
        visit.form_html(&owner.cookie, &form),
        ways(visit, owner).await?
    );
    Ok(visit.answer(page(visit, owner, "Close your account", &body).status(status(error.as_deref())), &owner.cookie))
}
