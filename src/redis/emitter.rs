//! Accepts events: callers that come together share a call (group commit).
//!
//! A caller that finds nobody calling leads: it sends its own events with those of all who wait for the same topic, up
//! to the most that one call takes, and then hands the lead to the first of those that still wait. The others sleep
//! until their result is there, or until they lead. So a single caller is not delayed, and many callers need fewer
//! calls.
//!
//! A call that is not answered is repeated with the same number, which the script recognizes: however often it arrives,
//! its events are accepted once. A call that arrives after a later one is ignored.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::calls::{Emission, EmitCall, GroupReply, MOST, MOST_BYTES, SCRIPTS};
use super::layout::Keys;
use super::link::{Cmd, Line, LinkError, Script, Value, cmd};
use crate::dispatch::EmitErrorKind;

/// Sends events and the calls of callers, one at a time.
pub(crate) struct Emitter {
    /// The session of its calls.
    session: String,
    /// For how long a call is repeated.
    timeout: Duration,
    /// How many events of a topic may be unfinished.
    max_unfinished: u64,
    /// Who waits.
    queue: Mutex<Queue>,
    /// The connection, and the number of the last call.
    line: Mutex<(Line, u64)>,
}

/// The callers that wait.
#[derive(Default)]
struct Queue {
    /// Whether one of them leads.
    has_leader: bool,
    /// Those that do not, in order.
    waiting: VecDeque<Arc<Request>>,
}

/// The events of a caller, which are accepted together or not at all.
struct Request {
    /// The keys of the topic.
    keys: Arc<Keys>,
    /// The events.
    events: Vec<Emission>,
    /// Until when the call is repeated.
    until: Instant,
    /// What became of it.
    state: Mutex<Turn>,
    /// Notified when that changes.
    changed: Condvar,
}

/// What became of a request.
#[derive(Debug)]
enum Turn {
    /// It waits.
    Waits,
    /// Its caller leads.
    Leads,
    /// It has a result.
    Over(EmitResult),
}

/// Why events were not accepted.
#[derive(Clone, Debug)]
pub(crate) struct EmitFailure {
    /// The kind for the caller.
    pub(crate) kind: EmitErrorKind,
    /// What the server or the system said.
    pub(crate) source: Option<LinkError>,
}

impl EmitFailure {
    /// The failure of a call that ended in `error`, after one that was possibly executed if `is_uncertain`.
    fn new(error: LinkError, is_uncertain: bool) -> Self {
        let kind = match &error {
            _ if is_uncertain => EmitErrorKind::Uncertain,
            LinkError::Lost(_) | LinkError::Shape => EmitErrorKind::Uncertain,
            LinkError::Unreachable(_) => EmitErrorKind::Unavailable,
            LinkError::Server { .. } if error.is_passing() => EmitErrorKind::Unavailable,
            LinkError::Server { .. } => EmitErrorKind::Refused,
        };
        EmitFailure {
            kind,
            source: Some(error),
        }
    }
}

impl Emitter {
    /// Creates an emitter that connects by `line`.
    pub(crate) fn new(session: String, line: Line, timeout: Duration, max_unfinished: u64) -> Self {
        Emitter {
            session,
            timeout,
            max_unfinished,
            queue: Mutex::default(),
            line: Mutex::new((line, 0)),
        }
    }

    /// Accepts `events`, which are one group. Blocks until the server has answered.
    ///
    /// # Errors
    ///
    /// Returns why they were not accepted.
    pub(crate) fn emit(
        &self,
        keys: &Arc<Keys>,
        events: Vec<Emission>,
    ) -> Result<GroupReply, EmitFailure> {
        let request = Arc::new(Request {
            keys: keys.clone(),
            events,
            until: Instant::now() + self.timeout,
            state: Mutex::new(Turn::Waits),
            changed: Condvar::new(),
        });
        let mut queue = self.queue.lock();
        if queue.has_leader {
            queue.waiting.push_back(request.clone());
            drop(queue);
            if let Some(result) = request.wait() {
                return result;
            }
            queue = self.queue.lock();
        }
        queue.has_leader = true;
        let others = queue.take_with(&request);
        drop(queue);
        let (result, results) = self.send(&request, &others);
        for (other, result) in others.into_iter().zip(results) {
            other.change(Turn::Over(result));
        }
        self.hand_on();
        result
    }

    /// Hands the lead to the first that waits, if one does.
    fn hand_on(&self) {
        let mut queue = self.queue.lock();
        let next = queue.waiting.pop_front();
        queue.has_leader = next.is_some();
        drop(queue);
        if let Some(next) = next {
            next.change(Turn::Leads);
        }
    }

    /// Sends the events of `first` and of `others`, and returns the result of the first and those of the others.
    fn send(&self, first: &Arc<Request>, others: &[Arc<Request>]) -> (EmitResult, Vec<EmitResult>) {
        let requests: Vec<_> = [first].into_iter().chain(others).collect();
        let until = requests.iter().map(|request| request.until).max();
        let mut line = self.line.lock();
        let (line, seq) = &mut *line;
        *seq += 1;
        let call = EmitCall {
            session: &self.session,
            seq: *seq,
            max_unfinished: self.max_unfinished,
        };
        let groups = requests.iter().map(|request| &request.events[..]);
        let call = call.write(&SCRIPTS, &first.keys, groups);
        let reply = repeat(line, &call, until.unwrap_or(first.until)).and_then(|reply| {
            let groups = GroupReply::read(reply).ok().flatten();
            let groups = groups.filter(|groups| groups.len() == requests.len());
            groups.ok_or_else(|| EmitFailure::new(LinkError::Shape, true))
        });
        match reply {
            Ok(groups) => {
                let mut results = groups.into_iter().map(Ok);
                (
                    results.next().expect("one for each request"),
                    results.collect(),
                )
            }
            Err(failure) => {
                let results = vec![Err(failure.clone()); others.len()];
                (Err(failure), results)
            }
        }
    }

    /// Makes another call on the same connection, and repeats it only if it was not sent or `is_harmless`.
    ///
    /// # Errors
    ///
    /// Returns the error of the last try.
    pub(crate) fn call(
        &self,
        script: &Script,
        call: &Cmd,
        is_harmless: bool,
    ) -> Result<Value, LinkError> {
        let until = Instant::now() + self.timeout;
        let line = &mut self.line.lock().0;
        if !is_harmless {
            // The server may have closed a connection on which nothing was sent for a while. One that is lost now is
            // made anew for the call, which is not repeated when it is lost.
            let _ = line.query(&cmd("PING"));
        }
        loop {
            match line.run(script, call) {
                Err(error) if error.is_passing() => {
                    let may_repeat = is_harmless || !matches!(error, LinkError::Lost(_));
                    let wait = line.backoff();
                    if !may_repeat || Instant::now() + wait >= until {
                        return Err(error);
                    }
                    thread::sleep(wait);
                }
                other => return other,
            }
        }
    }
}

/// The result of a request.
type EmitResult = Result<GroupReply, EmitFailure>;

/// Makes `call` until it is answered, at most until `until`.
fn repeat(line: &mut Line, call: &Cmd, until: Instant) -> Result<Value, EmitFailure> {
    let mut is_uncertain = false;
    loop {
        match line.run(&SCRIPTS.emit, call) {
            Ok(reply) => return Ok(reply),
            Err(error) => {
                is_uncertain |= matches!(error, LinkError::Lost(_));
                let wait = line.backoff();
                if !error.is_passing() || Instant::now() + wait >= until {
                    return Err(EmitFailure::new(error, is_uncertain));
                }
                thread::sleep(wait);
            }
        }
    }
}

impl Queue {
    /// Takes the requests that may be sent with `first`.
    fn take_with(&mut self, first: &Request) -> Vec<Arc<Request>> {
        let (mut events, mut bytes) = (first.events.len(), first.bytes());
        let mut taken = Vec::new();
        let mut at = 0;
        while let Some(request) = self.waiting.get(at) {
            let is_near = Arc::ptr_eq(&request.keys, &first.keys);
            let has_room =
                events + request.events.len() <= MOST && bytes + request.bytes() <= MOST_BYTES;
            if is_near && !has_room {
                break;
            }
            if is_near {
                events += request.events.len();
                bytes += request.bytes();
                taken.extend(self.waiting.remove(at));
            } else {
                at += 1;
            }
        }
        taken
    }
}

impl Request {
    /// The size of its payloads.
    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.payload.len()).sum()
    }

    /// Waits for the result, or returns `None` if its caller is to lead.
    fn wait(&self) -> Option<EmitResult> {
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut *state, Turn::Waits) {
                Turn::Waits => self.changed.wait(&mut state),
                Turn::Leads => return None,
                Turn::Over(result) => return Some(result),
            }
        }
    }

    /// Ends the wait.
    fn change(&self, turn: Turn) {
        *self.state.lock() = turn;
        self.changed.notify_one();
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
