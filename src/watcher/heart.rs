//! A handle to one watched key, whose beat costs one clock reading and one atomic store.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::error::HeartError;
use crate::options::Options;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::table::Beat;
use crate::table::heart_cell::{HeartCell, HeartSide, HeartState};
use crate::watcher::inbox::{Command, Patience};
use crate::watcher::router::{Route, Router};

/// A handle to one watched key, created by [`Watcher::watch`](crate::Watcher::watch).
///
/// A [`beat`](Heart::beat) hashes nothing and normally sends no message. Clones beat for the same key. When the last
/// clone is dropped, the key is removed and no expiry is reported. There are two exceptions, in which the key stays
/// watched and expires unless it beats by other means: a clone was [detached](Heart::detach), or the thread that drops
/// the last clone is panicking, so that a crash is reported.
///
/// A heart belongs to one episode of its key. Once the key has expired, was removed, or has a newer heart from another
/// call of `watch`, beats of this heart return an error. Neither its beats nor its drop affect a later episode of the
/// key. Where keys are reused, [`is_watched`](Heart::is_watched) returns whether the heart is still the current one.
///
/// ```
/// use std::time::Duration;
/// use liveness::Watcher;
///
/// let watcher = Watcher::<u64>::builder().timeout(Duration::from_secs(5)).build()?;
/// let heart = watcher.watch(17)?;
/// heart.beat()?;
/// assert!(watcher.contains(&17)?);
/// drop(heart);
/// assert!(!watcher.contains(&17)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Jobs that may crash
///
/// If code catches a panic and drops the heart afterwards, the drop looks like a normal end. Move the heart into the
/// closure, so that it is dropped by the panic:
///
/// ```
/// use std::panic::catch_unwind;
/// use liveness::Watcher;
///
/// let watcher = Watcher::<&str>::builder().build()?;
/// let heart = watcher.watch("job-1")?;
/// let crashed = catch_unwind(move || {
///     heart.beat().expect("job-1 is watched");
///     panic!("this job crashes");
/// });
/// assert!(crashed.is_err());
/// assert!(watcher.contains(&"job-1")?); // it will be reported after its timeout
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping the last clone of a heart removes its key"]
pub struct Heart<K, V = ()> {
    /// The cell shared with the worker, and the part of it that this clone has seen.
    heart_side: HeartSide,
    /// The data that all clones share.
    owner: Arc<Owner<K, V>>,
}

/// The data that all clones of a heart share; dropped with the last of them.
struct Owner<K, V> {
    /// The key; `None` only while this is dropped.
    key: Option<K>,
    /// The route of the key: its worker and its tag.
    route: Route,
    /// The cell shared with the worker.
    cell: Arc<HeartCell>,
    /// Sends messages to the worker.
    router: Arc<Router<K, V>>,
    /// Whether the key stays watched when this is dropped.
    detached: AtomicBool,
}

impl<K, V> Heart<K, V> {
    /// Creates a heart for `key`, which has been sent to the worker.
    pub(crate) fn new(
        key: K,
        route: Route,
        heart_side: HeartSide,
        router: Arc<Router<K, V>>,
    ) -> Self {
        let owner = Owner {
            key: Some(key),
            route,
            cell: heart_side.cell().clone(),
            router,
            detached: AtomicBool::new(false),
        };
        Heart {
            heart_side,
            owner: Arc::new(owner),
        }
    }

    /// Records a sign of life of the key. Costs one clock reading and one store, about 25 ns.
    ///
    /// Never blocks, with one exception: the first beat of a key that is [down](crate::Mode) is sent
    /// like [`Watcher::beat`](crate::Watcher::beat), so that its recovery is reported at once.
    ///
    /// A beat within nanoseconds of its own deadline may be too late although this returns `Ok`. The next beat then
    /// returns the error.
    ///
    /// # Errors
    ///
    /// Returns a [`HeartError`] that gives the reason why the key is no longer watched by this heart.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{HeartError, ManualClock, Watcher};
    /// # let clock = ManualClock::new();
    /// # let s = Duration::from_secs;
    /// # let watcher = Watcher::<u64>::builder().timeout(s(5)).clock(clock.clone()).build()?;
    /// let heart = watcher.watch(7)?; // the timeout is 5 seconds
    /// clock.advance(s(4));
    /// heart.beat()?;
    /// clock.advance(s(4));
    /// heart.beat()?; // 8 seconds old, and alive
    /// clock.advance(s(5));
    /// watcher.flush()?;
    /// assert_eq!(heart.beat(), Err(HeartError::Expired));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn beat(&self) -> Result<(), HeartError>
    where
        K: Clone,
    {
        self.beat_at(self.heart_side.clock().now_ns())
    }

    /// Records a sign of life at `now`, a reading of the watcher's clock.
    #[inline]
    pub(crate) fn beat_at(&self, now: u64) -> Result<(), HeartError>
    where
        K: Clone,
    {
        match self.heart_side.beat(now) {
            HeartState::Alive => Ok(()),
            other => self.beat_anyway(other, now),
        }
    }

    /// Applies `options` to the key without recording a beat. The options hold from now on, and the deadline is still
    /// computed from the last beat. [`known_only`](Options::known_only) has no effect, because a heart never brings its
    /// key back.
    ///
    /// Costs a message, an allocation and a copy of the key. Waits only while the inbox of the key's worker is full.
    ///
    /// # Errors
    ///
    /// Returns a [`HeartError`] if the key is no longer watched by this heart, or if the timeout is zero.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{Options, Watcher};
    ///
    /// let watcher = Watcher::<u64, &str>::builder().build()?;
    /// let heart = watcher.watch(7)?;
    /// heart.set(Options::new().extra("draining").timeout(Duration::from_secs(60)))?;
    /// let status = watcher.status(&7)?.expect("key 7 is watched");
    /// assert_eq!((status.extra, status.timeout), (Some("draining"), Duration::from_secs(60)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, options: Options<V>) -> Result<(), HeartError>
    where
        K: Clone,
    {
        match self.heart_side.cell().state() {
            HeartState::Alive | HeartState::Deciding | HeartState::Down => {}
            over => return self.beat_anyway(over, 0),
        }
        let Owner { route, router, .. } = &*self.owner;
        let stamp = router.clock().now_ns();
        let beat = Beat::with_options(route.tag, self.key().clone(), stamp, options)
            .map_err(|_| HeartError::ZeroTimeout)?;
        let cell = self.heart_side.cell().clone();
        router
            .send_options(beat, *route, Some(cell))
            .map_err(|_| HeartError::Closed)
    }

    /// Returns the key.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<String>::builder().build()?;
    /// let heart = watcher.watch("db-1".to_owned())?;
    /// assert_eq!(heart.key(), "db-1");
    /// assert!(watcher.contains(heart.key())?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn key(&self) -> &K {
        match &self.owner.key {
            Some(key) => key,
            None => unreachable!("a heart that is not dropped has its key"),
        }
    }

    /// Returns `true` while this heart still keeps its key watched.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// let heart = watcher.watch(7)?;
    /// assert!(heart.is_watched());
    /// watcher.remove(&7)?;
    /// watcher.flush()?;
    /// assert!(!heart.is_watched());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_watched(&self) -> bool {
        matches!(
            self.heart_side.cell().state(),
            HeartState::Alive | HeartState::Deciding | HeartState::Down
        )
    }

    /// Drops this clone, and keeps the key watched when the last clone is dropped. The key then expires like any other
    /// unless it beats by other means.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.watch(7)?.detach();
    /// drop(watcher.watch(8)?);
    /// assert!(watcher.contains(&7)?);
    /// assert!(!watcher.contains(&8)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(self) {
        self.owner.detached.store(true, Ordering::Release);
    }

    /// Handles a beat of a key that is not in the state `Alive`.
    #[cold]
    fn beat_anyway(&self, state: HeartState, now: u64) -> Result<(), HeartError>
    where
        K: Clone,
    {
        match state {
            HeartState::Alive | HeartState::Deciding => Ok(()),
            HeartState::Down => {
                let Owner { route, router, .. } = &*self.owner;
                let key = self.key().clone();
                let beat = Beat::plain(route.tag, key, now);
                router
                    .send_beat(beat, *route, Patience::Forever)
                    .map_err(|_| HeartError::Closed)
            }
            HeartState::Expired => Err(HeartError::Expired),
            HeartState::Removed => Err(HeartError::Removed),
            HeartState::Replaced => Err(HeartError::Replaced),
            HeartState::Closed => Err(HeartError::Closed),
        }
    }
}

/// A panic leaves no change of a heart incomplete. Its state consists of atomics, and the worker's state is on another
/// thread.
impl<K, V> UnwindSafe for Heart<K, V> {}
impl<K, V> RefUnwindSafe for Heart<K, V> {}

impl<K, V> Clone for Heart<K, V> {
    fn clone(&self) -> Self {
        Heart {
            heart_side: self.heart_side.clone(),
            owner: self.owner.clone(),
        }
    }
}

impl<K: fmt::Debug, V> fmt::Debug for Heart<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heart")
            .field("key", self.key())
            .field("state", &self.heart_side.cell().state())
            .finish_non_exhaustive()
    }
}

impl<K, V> Drop for Owner<K, V> {
    /// Sends the end of the heart to the worker, and waits for room in its inbox if necessary. A heart whose key is no
    /// longer watched through it sends nothing.
    fn drop(&mut self) {
        let is_over = matches!(
            self.cell.state(),
            HeartState::Expired | HeartState::Removed | HeartState::Replaced | HeartState::Closed
        );
        if let (false, Some(key)) = (is_over, self.key.take()) {
            // A thread that unwinds has crashed: silence is what its key is watched for.
            let leave = *self.detached.get_mut() || std::thread::panicking();
            let (tag, cell) = (self.route.tag, self.cell.clone());
            let _ = self.router.command(
                self.route.worker,
                Command::Release {
                    tag,
                    key,
                    cell,
                    leave,
                },
            );
        }
    }
}
