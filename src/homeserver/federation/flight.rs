//! One piece of work at a time for each key: who asks for the same while it is under way waits for the same outcome.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

type Flight<V> = Shared<BoxFuture<'static, V>>;

/// The work under way. Clones share it.
#[derive(Clone)]
pub(super) struct Flights<K, V: Clone>(Arc<Mutex<HashMap<K, Flight<V>>>>);

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V: Clone> Debug for Flights<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// One who waits. The last one to go, with or without the outcome, takes the work off the list: what nobody waits for is not
/// kept.
struct Waiter<'a, K: Eq + Hash, V: Clone> {
    flights: &'a Flights<K, V>,
    key: K,
    flight: Option<Flight<V>>,
}

impl<K: Eq + Hash, V: Clone> Drop for Waiter<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = self.flight.take() else { return };
        let listed = flights.get(&self.key).is_some_and(|other| other.ptr_eq(&own));
        // Ours and the list's: nobody else waits. A finished one counts nobody.
        if listed && own.strong_count().is_none_or(|count| count <= 2) {
            flights.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone + Send + Sync> Flights<K, V> {
    /// Waits for the work under this key, which `start` begins when there is none under way.
    pub(super) async fn run(&self, key: K, start: impl FnOnce() -> BoxFuture<'static, V>) -> V {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            flights.entry(key.clone()).or_insert_with(|| start().shared()).clone()
        };
        let waiter = Waiter { flights: self, key, flight: Some(flight.clone()) };
        let outcome = flight.await;
        drop(waiter);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_piece_of_work() {
        let (flights, started, gate) = (Flights::<u8, usize>::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (started, gate) = (Arc::clone(&started), Arc::clone(&gate));
            flights.run(1, move || {
                let number = started.fetch_add(1, Ordering::SeqCst);
                async move {
                    gate.notified().await;
                    number
                }
                .boxed()
            })
        };
        // The gate opens when all three wait.
        assert_eq!(tokio::join!(ask(), ask(), ask(), async { gate.notify_one() }), (0, 0, 0, ()));
        gate.notify_one();
        assert_eq!(ask().await, 1, "later, it is done again");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_kept() {
        let flights = Flights::<u8, ()>::default();
        let mut first = Box::pin(flights.run(1, || std::future::pending().boxed()));
        let mut second = Box::pin(flights.run(1, || std::future::pending().boxed()));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(flights.0.lock().map(|flights| flights.len()).ok(), Some(1));
        drop(second);
        assert_eq!(flights.0.lock().map(|flights| flights.len()).ok(), Some(0));
    }
}
