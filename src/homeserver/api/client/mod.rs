//! The Client-Server API: one file per section of the specification, each with an `add` that registers its endpoints.

mod discovery;

use super::call::Routes;

/// Registers all of it.
pub(super) fn add(routes: Routes) -> Routes {
    discovery::add(routes)
}
