//! What threads do in user code, and the watcher that finds one that is blocked there.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::agent::AgentId;
use crate::Heart;
use crate::clock::{self, Clock};
use crate::event::Event;
use crate::options::Mode;
use crate::panic::catch_panic;
use crate::watcher::Watcher;

/// The report of a thread of the server that is blocked in user code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocked {
    /// The name of the thread, which is that of the group if it is one.
    pub thread: String,
    /// The route, or `opened`, `closed` or `authorize`.
    pub route: String,
    /// The agent.
    pub agent: AgentId,
    /// For how long it has been there.
    pub since: Duration,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is blocked for {:.1?} in `{}` of agent {}",
            self.thread, self.since, self.route, self.agent
        )
    }
}

/// What a thread of the server is doing: user code of a route for an agent, since a time in ns.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The name of the thread.
    name: String,
    /// The code that began last.
    last: Mutex<Option<(Arc<str>, AgentId, u64)>>,
    /// Whether it runs.
    is_running: AtomicBool,
    /// Whether it was reported.
    is_reported: AtomicBool,
    /// Beats when code begins, so that the supervisor looks here when no code has begun for a while.
    heart: OnceLock<Heart<usize>>,
}

impl Desk {
    /// Creates the desk of the thread `name`.
    fn new(name: String) -> Self {
        Desk {
            name,
            last: Mutex::new(None),
            is_running: AtomicBool::new(false),
            is_reported: AtomicBool::new(false),
            heart: OnceLock::new(),
        }
    }

    /// Runs `code`, which is visible meanwhile. Returns `None` if it panicked.
    pub(crate) fn run<R>(
        &self,
        clock: &Clock,
        route: &Arc<str>,
        agent: AgentId,
        code: impl FnOnce() -> R,
    ) -> Option<R> {
        self.run_at(clock.now_ns(), route, agent, code)
    }

    /// Runs `code` like [`run`](Desk::run), at `now`, a reading of the server's clock.
    pub(crate) fn run_at<R>(
        &self,
        now: u64,
        route: &Arc<str>,
        agent: AgentId,
        code: impl FnOnce() -> R,
    ) -> Option<R> {
        let mut last = self.last.lock();
        // Most threads run the same code again and again.
        match &mut *last {
            Some(last) if Arc::ptr_eq(&last.0, route) => (last.1, last.2) = (agent, now),
            _ => *last = Some((route.clone(), agent, now)),
        }
        self.is_reported.store(false, Ordering::Relaxed);
        self.is_running.store(true, Ordering::Relaxed);
        drop(last);
        if let Some(heart) = self.heart.get() {
            // Fails only if the supervisor is closed, at the end of the server.
            let _ = heart.beat_at(now);
        }
        let result = catch_panic(code);
        self.is_running.store(false, Ordering::Release);
        result
    }

    /// Returns what has been running for at least `limit`, once.
    fn blocked(&self, now: u64, limit: Duration) -> Option<Blocked> {
        // Other code cannot begin meanwhile.
        let last = self.last.lock();
        if !self.is_running.load(Ordering::Acquire) {
            return None;
        }
        let (route, agent, since) = last.as_ref()?;
        let since = clock::duration(now.saturating_sub(*since));
        if since < limit || self.is_reported.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(Blocked {
            thread: self.name.clone(),
            route: route.to_string(),
            agent: *agent,
            since,
        })
    }

    /// Returns whether what runs now was reported.
    fn is_blocked(&self) -> bool {
        let _last = self.last.lock();
        self.is_running.load(Ordering::Acquire) && self.is_reported.load(Ordering::Relaxed)
    }

    /// The name of the thread.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

thread_local! {
    /// The desks of this thread: one for each server for which it runs code.
    static DESKS: RefCell<Vec<(Weak<Supervisor>, Arc<Desk>)>> = const { RefCell::new(Vec::new()) };
}

/// The desks of the threads that run user code for a server, and the watcher that looks at them: threads of the server,
/// and those of groups.
pub(crate) struct Supervisor {
    /// The watcher; `None` after the end.
    watcher: Mutex<Option<Watcher<usize>>>,
    /// The desks by their keys. A desk is dropped with its thread.
    desks: Arc<Mutex<Vec<Weak<Desk>>>>,
}

impl Supervisor {
    /// Starts the watcher, which looks at a desk when no code has begun there for `limit`, and calls `report`.
    pub(crate) fn start(
        clock: &Clock,
        limit: Duration,
        report: impl Fn(&Blocked) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Box<dyn Error + Send + Sync>> {
        let desks: Arc<Mutex<Vec<Weak<Desk>>>> = Arc::default();
        let (at, seen) = (clock.clone(), desks.clone());
        let watcher = Watcher::<usize>::builder()
            .timeout(limit)
            .mode(Mode::Track)
            .workers(1)
            .clock(clock.clone())
            .on_event(move |event: Event<usize>| {
                let Event::Expired(event) = event else {
                    return;
                };
                let desk = seen.lock().get(event.key).and_then(Weak::upgrade);
                if let Some(blocked) = desk.and_then(|desk| desk.blocked(at.now_ns(), limit)) {
                    report(&blocked);
                }
            })
            .build()?;
        Ok(Arc::new(Supervisor {
            watcher: Mutex::new(Some(watcher)),
            desks,
        }))
    }

    /// Creates a supervisor that looks at nothing.
    #[cfg(all(test, shuttle))]
    pub(crate) fn idle() -> Arc<Self> {
        Arc::new(Supervisor {
            watcher: Mutex::new(None),
            desks: Arc::default(),
        })
    }

    /// Creates the desk of the thread `name`.
    pub(crate) fn seat(&self, name: String) -> Arc<Desk> {
        let desk = Arc::new(Desk::new(name));
        let mut desks = self.desks.lock();
        // The key of a thread that has ended is used again.
        let free = desks.iter().position(|desk| desk.strong_count() == 0);
        let key = free.unwrap_or(desks.len());
        if key == desks.len() {
            desks.push(Weak::new());
        }
        desks[key] = Arc::downgrade(&desk);
        drop(desks);
        // Without a watcher, the server has ended.
        let heart = self.watcher.lock().as_ref().map(|it| it.watch(key));
        if let Some(Ok(heart)) = heart {
            let _ = desk.heart.set(heart);
        }
        desk
    }

    /// Returns the desk of the current thread, which belongs to the server or to a group.
    pub(crate) fn desk_here(self: &Arc<Self>) -> Arc<Desk> {
        let is_own = |it: &Weak<Supervisor>| std::ptr::eq(it.as_ptr(), Arc::as_ptr(self));
        let found = DESKS.with_borrow(|desks| {
            let mut found = desks.iter().filter(|(it, _)| is_own(it));
            found.next().map(|(_, desk)| desk.clone())
        });
        found.unwrap_or_else(|| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            let desk = self.seat(name);
            self.sit_at(desk.clone());
            desk
        })
    }

    /// Sets the desk of the current thread.
    pub(crate) fn sit_at(self: &Arc<Self>, desk: Arc<Desk>) {
        DESKS.with_borrow_mut(|desks| {
            desks.retain(|(it, _)| it.strong_count() > 0);
            desks.push((Arc::downgrade(self), desk));
        });
    }

    /// Returns the names of the threads that were reported as blocked and still are.
    pub(crate) fn blocked(&self) -> Vec<String> {
        let desks = self.desks.lock();
        let desks = desks.iter().filter_map(Weak::upgrade);
        let blocked = desks.filter(|desk| desk.is_blocked());
        blocked.map(|desk| desk.name.clone()).collect()
    }

    /// Ends the watcher. Returns the names of its threads that still run.
    pub(crate) fn close(&self, within: Duration) -> Vec<String> {
        let Some(watcher) = self.watcher.lock().take() else {
            return Vec::new();
        };
        // It calls a user's code, which may block.
        match watcher.close_timeout(within) {
            Ok(_) => Vec::new(),
            Err(error) => {
                let threads = error.threads().to_vec();
                // It is closed, and dropping it would wait for the callback.
                std::mem::forget(watcher);
                threads
            }
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Supervisor")
    }
}
