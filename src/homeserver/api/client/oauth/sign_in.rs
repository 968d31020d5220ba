//! Checking who sits in front of a browser, and making an account for who has none.

use http::StatusCode;
use ruma::OwnedUserId;

use super::{
    super::login,
    page::{done, esc, input, new_password_inputs, password_input, problem, user_input},
    visit::Visit,
};
use crate::homeserver::{
    Registration,
    api::error::{ApiError, ApiResult},
    store,
    types::UserNid,
    users::{
        AccountError, Accounts, Credentials,
        limits::{Key, Kind},
        oauth::browser::Proof,
    },
};

/// A user, or what to tell a person instead.
pub(super) type Checked = Result<(OwnedUserId, UserNid), String>;

/// Counts an attempt from this address.
pub(super) fn limit(visit: &Visit, kind: Kind) -> Result<(), String> {
    match visit.address.map(|address| visit.node.limits.check(kind, Key::Address(address))) {
        Some(Err(wait)) => Err(format!("Too many attempts. Try again in {} seconds.", wait.as_secs() + 1)),
        _ => Ok(()),
    }
}

/// A provider's word for who sits in front of this page.
pub(super) fn proof(visit: &Visit) -> Option<Proof> {
    visit.node.accounts.oauth.browsers.proof(visit.cookie.as_deref()?, &visit.here)
}

/// The same; it is used up.
pub(super) fn take_proof(visit: &Visit) -> Option<Proof> {
    visit.node.accounts.oauth.browsers.take_proof(visit.cookie.as_deref()?, &visit.here)
}

/// Whom a provider's word lets in: the account has to be open.
///
/// # Errors
///
/// What is our fault; what is the user's is in the answer.
pub(super) async fn proven(visit: &Visit, proof: Proof) -> ApiResult<Checked> {
    Ok(match visit.node.accounts.account(&proof.user_id).await? {
        Some(account) if account.locked => Err("This account has been locked.".into()),
        Some(account) if !account.deactivated => Ok((proof.user_id, account.user)),
        _ => Err("This account has been closed.".into()),
    })
}

/// What a form asks for to know who somebody is, as HTML; only a name where a provider has said it.
pub(super) fn who_inputs(visit: &Visit, user: &str) -> String {
    proof(visit).map_or_else(|| user_input(user) + password_input().as_str(), |proof| vouched(&proof))
}

/// The same of somebody who is known and is to confirm something. A word for somebody else, or of a provider that has not asked
/// anew, is of no use for that, and does not stay.
pub(super) fn confirm_inputs(visit: &Visit, user: UserNid) -> String {
    match proof(visit) {
        Some(proof) if proof.fresh && proof.user == user => vouched(&proof),
        Some(proof) => {
            let _ = take_proof(visit);
            problem(Some(&format!("{} says that you are {}. This confirms nothing here.", proof.provider, proof.user_id)))
                + password_input().as_str()
        }
        None => password_input(),
    }
}

fn vouched(proof: &Proof) -> String {
    done(&format!("{} says that you are {}.", proof.provider, proof.user_id))
}

/// Checks who a form says that somebody is: a provider's word for this page, or user name and password.
///
/// # Errors
///
/// What is our fault; what is the user's is in the answer.
pub(super) async fn check(visit: &Visit) -> ApiResult<Checked> {
    if let Some(proof) = proof(visit) {
        let checked = proven(visit, proof).await?;
        if checked.is_err() {
            let _ = take_proof(visit);
        }
        return Ok(checked);
    }
    check_user(visit, visit.field("user").trim()).await
}

/// Checks the password of a form, of a user who is known.
pub(super) async fn check_user(visit: &Visit, user: &str) -> ApiResult<Checked> {
    if let Err(wait) = limit(visit, Kind::LoginAddress) {
        return Ok(Err(wait));
    }
    let credentials = Credentials { user: user.to_owned(), password: visit.field("password").to_owned().into() };
    match login::check_password(&visit.node, &credentials).await {
        Ok(found) => Ok(Ok(found)),
        Err(error) if error.status().is_server_error() => Err(error),
        Err(error) => Ok(Err(match error.retry_after() {
            Some(wait) => format!("Too many wrong passwords. Try again in {} seconds.", wait.as_secs() + 1),
            None => format!("{}.", error.message().unwrap_or("This did not work")),
        })),
    }
}

/// True when somebody without an account can get one here.
pub(super) fn can_register(visit: &Visit) -> bool {
    visit.node.config.registration != Registration::Closed
}

/// What a new account needs, as HTML.
pub(super) fn new_account_inputs(visit: &Visit) -> String {
    let token = match visit.node.config.registration {
        Registration::Token => input(
            "Registration token",
            "token",
            visit.field("token"),
            "type=\"text\" autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\" maxlength=\"255\" required",
        ),
        _ => String::new(),
    };
    token + user_input(visit.field("user")).as_str() + new_password_inputs().as_str() + terms_inputs(visit).as_str()
}

/// What a new user has to accept, as HTML; nothing where the owner asks for nothing.
pub(super) fn terms_inputs(visit: &Visit) -> String {
    visit.node.config.terms.as_ref().map_or_else(String::new, |terms| {
        format!(
            "<p><label><input type=\"checkbox\" name=\"terms\" value=\"yes\" required> I accept the \
             <a href=\"{}\" target=\"_blank\" rel=\"noopener noreferrer\">terms of this server</a> (version {}).</label></p>",
            esc(&terms.url),
            esc(&terms.version)
        )
    })
}

/// Says what is wrong with a form in which the terms are not accepted.
pub(super) fn terms_accepted(visit: &Visit) -> Result<(), String> {
    if visit.node.config.terms.is_some() && visit.field("terms") != "yes" {
        return Err("The terms of this server have to be accepted.".into());
    }
    Ok(())
}

/// Makes the account that a form asks for.
pub(super) async fn register(visit: &Visit) -> ApiResult<Checked> {
    if visit.field("new_password") != visit.field("again") {
        return Ok(Err("The two passwords differ.".into()));
    }
    if let Err(why) = terms_accepted(visit) {
        return Ok(Err(why));
    }
    if let Err(wait) = limit(visit, Kind::Registration) {
        return Ok(Err(wait));
    }
    let token = match visit.node.config.registration {
        Registration::Closed => return Ok(Err("Registration is closed on this server.".into())),
        Registration::Open => None,
        Registration::Token => Some(visit.field("token").trim().to_owned()),
    };
    let accounts: &Accounts = &visit.node.accounts;
    let user_id = match accounts.create_with(visit.field("user").trim(), visit.field("new_password"), false, token).await {
        Ok(user_id) => user_id,
        Err(AccountError::Store(error)) => return Err(error.into()),
        Err(error @ AccountError::Hash(_)) => return Err(error.into()),
        Err(error) => return Ok(Err(sentence(&error.to_string()))),
    };
    let wanted = user_id.clone();
    let user = visit.node.store.read(move |db| store::accounts::active(db, &wanted)).await?;
    let user = user.ok_or_else(|| ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", "The new account is gone"))?;
    Ok(Ok((user_id, user)))
}

/// A message as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}
