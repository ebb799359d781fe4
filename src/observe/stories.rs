//! What happens to members, as it happens: for the log, and for pages.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use crate::event::{Event, KeyEvent};
use crate::options::Mode;

#[cfg(all(feature = "server", feature = "json"))]
use std::sync::Weak;

#[cfg(all(feature = "server", feature = "json"))]
use parking_lot::Mutex;

#[cfg(all(feature = "server", feature = "json"))]
use super::measure::State;
#[cfg(all(feature = "server", feature = "json"))]
use super::sources::millis;
#[cfg(all(
    feature = "registry",
    any(feature = "log", all(feature = "server", feature = "json"))
))]
use crate::registry::{Change, Registry, Subscription, Transition, Update};

#[cfg(all(feature = "server", feature = "json"))]
pub(crate) use kept::{Ring, Story};

/// What happened to members, for those parts that report it.
#[derive(Clone, Default)]
pub(crate) struct Reports {
    /// The kind and the name of each part, and the stories, which are kept by what reports them.
    #[cfg(all(feature = "server", feature = "json"))]
    rings: Arc<Mutex<Vec<Kept>>>,
}

/// The kind and the name of a part, and its stories.
#[cfg(all(feature = "server", feature = "json"))]
type Kept = (&'static str, Arc<str>, Weak<Ring>);

#[cfg(all(feature = "server", feature = "json"))]
impl Reports {
    /// Returns a new place for the stories of a part.
    fn ring(&self, kind: &'static str, name: &Arc<str>) -> Arc<Ring> {
        let ring = Arc::default();
        let mut rings = self.rings.lock();
        rings.retain(|it| (it.0, &it.1) != (kind, name) && it.2.strong_count() > 0);
        rings.push((kind, name.clone(), Arc::downgrade(&ring)));
        ring
    }

    /// Returns the stories of a part, if it reports any.
    pub(crate) fn of(&self, kind: &'static str, name: &Arc<str>) -> Option<Arc<Ring>> {
        let rings = self.rings.lock();
        let found = rings.iter().find(|it| (it.0, &it.1) == (kind, name))?;
        found.2.upgrade()
    }
}

/// What became of a member, as the end of a sentence that begins with its label.
pub(crate) type What = Cow<'static, str>;

/// Returns what a change means for a node, and whether people should look at it. `None` for changes of data and weight.
#[cfg(all(
    feature = "registry",
    any(feature = "log", all(feature = "server", feature = "json"))
))]
fn of_node(change: Change) -> Option<(What, bool)> {
    let what = match change {
        Change::Registered => "is registered",
        Change::Returning => "is joining again",
        Change::Up => "is up",
        Change::Recovered { down_for } => {
            let seconds = down_for.as_secs_f64();
            return Some((format!("is back after {seconds:.1} s").into(), false));
        }
        Change::Suspected => "is suspect",
        Change::Reassured => "is no longer suspect",
        Change::Held => "is held by the guard",
        Change::Down => "is down",
        Change::Left => "has left",
        Change::Forgotten => "is forgotten",
        Change::Drained => "is drained",
        Change::Undrained => "is no longer drained",
        Change::Reused => "is no longer suppressed",
        Change::Updated | Change::Weight => return None,
    };
    let is_alarm = matches!(change, Change::Down | Change::Held);
    Some((what.into(), is_alarm))
}

/// Returns the key of an event and what it means for the key. `None` for beats.
fn of_key<K, V>(event: &Event<K, V>) -> Option<(Option<&K>, What)> {
    let (it, what) = match event {
        Event::Joined(it) => (it, "is new".into()),
        Event::Expired(it @ KeyEvent { misses: 2.., .. }) => (it, "is still down".into()),
        Event::Expired(it) if it.mode == Mode::Once => (it, "has expired".into()),
        Event::Expired(it) => (it, "is down".into()),
        Event::Recovered(it) => {
            let seconds = it.down_for.unwrap_or_default().as_secs_f64();
            (it, format!("is back after {seconds:.1} s").into())
        }
        Event::Removed(it) => (it, "was removed".into()),
        Event::Stalled(stall) => {
            let gap = stall.resumed - stall.last_alive;
            let worker = stall.worker;
            let what = format!("worker {worker} did not run for {gap:.1?}");
            return Some((None, what.into()));
        }
        Event::Beat(_) => return None,
    };
    Some((Some(&it.key), what))
}

/// Returns what logs each event of the watcher `name` that it is called with, and keeps the last ones for pages.
pub(crate) fn reporter<K: Display + 'static, V: 'static>(
    reports: &Reports,
    name: Arc<str>,
) -> impl Fn(&Event<K, V>) + Send + Sync + use<K, V> {
    #[cfg(all(feature = "server", feature = "json"))]
    let ring = reports.ring("watcher", &name);
    #[cfg(not(all(feature = "server", feature = "json")))]
    let _ = reports;
    move |event| {
        let Some((key, what)) = of_key(event) else {
            return;
        };
        if let Some(key) = key {
            crate::log::debug!("watcher {name}: {key} {what}");
        }
        #[cfg(all(feature = "server", feature = "json"))]
        ring.push(Story {
            at: millis(std::time::SystemTime::now()),
            label: key.map_or_else(String::new, K::to_string),
            what,
            state: State::after(event),
        });
    }
}

/// Logs the changes of the registry `name` from now on, and keeps the last ones for pages.
#[cfg(all(
    feature = "registry",
    any(feature = "log", all(feature = "server", feature = "json"))
))]
pub(crate) fn follow<N, D>(
    reports: &Reports,
    name: Arc<str>,
    registry: &Registry<N, D>,
) -> Option<Subscription>
where
    N: Display + Eq + std::hash::Hash + Clone + Send + Sync + 'static,
    D: Send + Sync + 'static,
{
    /// How many changes wait for the log.
    const WAITING: usize = 1_024;

    #[cfg(all(feature = "server", feature = "json"))]
    let (ring, clock) = (reports.ring("registry", &name), registry.clock().clone());
    #[cfg(not(all(feature = "server", feature = "json")))]
    let _ = reports;
    let report = move |update: Update<N, D>| {
        let (at, change, status) = match update {
            Update::Node(Transition {
                at, change, status, ..
            }) => (at, change, status),
            Update::Missed { count, .. } => {
                crate::log::warn!("registry {name}: {count} changes are not logged");
                return;
            }
            // They are logged where they happen.
            Update::Guard(_) | Update::Stalled { .. } => return,
        };
        let Some((what, is_alarm)) = of_node(change) else {
            return;
        };
        let id = status.node.id();
        #[cfg(not(all(feature = "server", feature = "json")))]
        let _ = at;
        #[cfg(all(feature = "server", feature = "json"))]
        ring.push(Story {
            at: millis(clock.system_time(at)),
            label: id.to_string(),
            what: what.clone(),
            state: match change {
                Change::Forgotten => State::Left,
                _ => State::of(&status),
            },
        });
        if is_alarm {
            crate::log::warn!("registry {name}: {id} {what}");
            return;
        }
        crate::log::debug!("registry {name}: {id} {what}");
    };
    match registry.subscribe_with(WAITING, report) {
        Ok((_, subscription)) => Some(subscription),
        Err(error) => {
            crate::log::error!("the changes of a registry are not logged: {error}");
            None
        }
    }
}

/// Stories that are kept for pages.
#[cfg(all(feature = "server", feature = "json"))]
mod kept {
    use std::collections::VecDeque;

    use parking_lot::Mutex;

    use super::What;
    use crate::observe::measure::State;

    /// How many stories of a part are kept.
    const KEPT: usize = 200;

    /// Something that happened to a member.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Story {
        /// When, ms since 1970.
        pub(crate) at: u64,
        /// The member, or nothing.
        pub(crate) label: String,
        /// What.
        pub(crate) what: What,
        /// The state that the member is in since then.
        pub(crate) state: State,
    }

    /// The last stories of a part, and how many there were.
    #[derive(Debug, Default)]
    pub(crate) struct Ring(Mutex<(u64, VecDeque<Story>)>);

    impl Ring {
        /// Adds a story, in the place of the oldest if there are many.
        pub(crate) fn push(&self, story: Story) {
            let (count, kept) = &mut *self.0.lock();
            *count += 1;
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(story);
        }

        /// Returns the stories after the first `seen`, how many of them are no longer kept, and how many there were in
        /// all.
        pub(crate) fn since(&self, seen: u64) -> (Vec<Story>, u64, u64) {
            let (count, kept) = &*self.0.lock();
            let first = *count - kept.len() as u64;
            let skipped = seen.saturating_sub(first) as usize;
            let stories = kept.iter().skip(skipped).cloned().collect();
            (stories, first.saturating_sub(seen), *count)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn each_story_is_returned_once_and_those_that_are_dropped_are_counted() {
            let ring = Ring::default();
            let story = |at| Story {
                at,
                label: String::new(),
                what: "is up".into(),
                state: State::Up,
            };
            assert_eq!(ring.since(0), (vec![], 0, 0));
            ring.push(story(1));
            ring.push(story(2));
            assert_eq!(ring.since(0), (vec![story(1), story(2)], 0, 2));
            assert_eq!(ring.since(1), (vec![story(2)], 0, 2));
            assert_eq!(ring.since(2), (vec![], 0, 2));
            let many = KEPT as u64 + 5;
            (3..=many).for_each(|at| ring.push(story(at)));
            let (stories, dropped, count) = ring.since(2);
            assert_eq!((stories.len(), dropped, count), (KEPT, 3, many));
            assert_eq!(stories[0], story(6));
        }
    }
}
