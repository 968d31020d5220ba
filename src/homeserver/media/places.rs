//! Places for work that takes long: a few at one time, one for each user.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::homeserver::types::UserNid;

/// Places at one time.
const PLACES: usize = 8;

/// The places.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    /// Those who have a place or wait for one.
    users: Mutex<HashMap<UserNid, Arc<Semaphore>>>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    _own: OwnedSemaphorePermit,
    _one: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(PLACES)), users: Mutex::default() }
    }
}

impl Places {
    /// Waits for a place, this long at most. Whoever has one waits for it before they wait for another.
    pub async fn take(&self, user: UserNid, wait: Duration) -> Option<Place> {
        let own = {
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            // A permit and whoever waits for one hold the semaphore.
            users.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            Arc::clone(users.entry(user).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let both = async {
            let own = own.acquire_owned().await.ok()?;
            let one = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Place { _own: own, _one: one })
        };
        tokio::time::timeout(wait, both).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_user_has_one_place_and_nobody_waits_for_longer_than_they_want() {
        let places = Places::default();
        // Whoever does not get a place at once gets none.
        let wait = Duration::ZERO;
        let anns = places.take(UserNid(1), wait).await;
        assert!(anns.is_some());
        assert!(places.take(UserNid(1), wait).await.is_none(), "one at a time");
        assert!(places.take(UserNid(2), wait).await.is_some(), "others are not concerned");
        drop(anns);
        assert!(places.take(UserNid(1), wait).await.is_some());
        let mut taken = Vec::new();
        for user in 0..8 {
            taken.push(places.take(UserNid(user), wait).await);
        }
        assert!(taken.iter().all(Option::is_some));
        assert!(places.take(UserNid(9), wait).await.is_none(), "all are taken");
        drop(taken);
        assert!(places.take(UserNid(9), wait).await.is_some());
        assert_eq!(places.users.lock().unwrap_or_else(PoisonError::into_inner).len(), 1, "nobody is remembered for nothing");
    }
}
