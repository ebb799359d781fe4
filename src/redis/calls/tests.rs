//! The scripts on a real server, by a clock that the tests set.

mod cluster;
mod hostile;
mod leases;
mod oracle;
mod texts;

use std::sync::LazyLock;

use super::super::layout::Keys;
use super::super::link::{Cmd, Endpoint, Link, LinkError, Script, Value, cmd};
use super::super::redis_server::{RedisServer, for_test};
use super::*;

/// The scripts, with the time as their last argument.
static TIMED: LazyLock<Scripts> = LazyLock::new(|| Scripts::new(with_time));

/// The beginning of the line by which a script reads the clock.
const CLOCK: &str = "local time =";

/// When the tests begin, us since 1970.
const START: u64 = 1_700_000_000_000_000;

/// A script whose clock is its last argument.
fn with_time(text: &str) -> String {
    let edit = |line: &str| {
        if line.starts_with(CLOCK) {
            "local now = tonumber(table.remove(ARGV))\n".to_owned()
        } else {
            format!("{line}\n")
        }
    };
    text.lines().map(edit).collect()
}

/// Events without delay and key, one for each payload.
fn plain(payloads: &[&str]) -> Vec<Emission> {
    let event = |payload: &&str| Emission {
        due: When::Now,
        unique: None,
        payload: payload.as_bytes().to_vec(),
    };
    payloads.iter().map(event).collect()
}

/// A topic on a server.
struct Store {
    link: Link,
    keys: Keys,
    /// The time, us since 1970.
    now: u64,
    /// The number of the last call.
    seq: u64,
}

impl Store {
    fn new(server: &RedisServer, topic: &str) -> Self {
        let limit = Duration::from_secs(10);
        let endpoint = Endpoint::new(&server.url(), limit, limit).unwrap();
        Store::over(endpoint.connect().unwrap(), topic)
    }

    fn over(link: Link, topic: &str) -> Self {
        Store {
            link,
            keys: Keys::new(topic),
            now: START,
            seq: 0,
        }
    }

    /// Makes a call of a script that does not read the clock.
    fn run(&mut self, script: &Script, call: &Cmd) -> Result<Value, LinkError> {
        self.link.run(script, call)
    }

    /// Makes a call of a script that reads the clock.
    fn at_now(&mut self, script: &Script, mut call: Cmd) -> Result<Value, LinkError> {
        call.arg(self.now);
        self.link.run(script, &call)
    }

    /// Sends a command.
    fn command(&mut self, words: &[&str]) -> Value {
        let mut call = cmd(words[0]);
        for word in &words[1..] {
            call.arg(*word);
        }
        self.link.query(&call).unwrap()
    }

    /// Emits groups of events in the call `seq` of `session`.
    fn emit_as(
        &mut self,
        session: &str,
        seq: u64,
        max_unfinished: u64,
        groups: &[Vec<Emission>],
    ) -> Result<Option<Vec<GroupReply>>, LinkError> {
        let call = EmitCall {
            session,
            seq,
            max_unfinished,
        };
        let groups = groups.iter().map(Vec::as_slice);
        let call = call.write(&TIMED, &self.keys, groups);
        GroupReply::read(self.at_now(&TIMED.emit, call)?)
    }

    fn work(&mut self, call: &WorkCall<'_>) -> Option<WorkReply> {
        let call = call.write(&TIMED, &self.keys);
        WorkReply::read(self.at_now(&TIMED.work, call).unwrap()).unwrap()
    }

    fn renew(&mut self, lease: u64, events: &[(u64, u64)]) -> RenewReply {
        let call = RenewReply::write(&TIMED, &self.keys, lease, events);
        RenewReply::read(self.at_now(&TIMED.renew, call).unwrap()).unwrap()
    }

    fn cancel(&mut self, ids: &[u64]) -> Vec<crate::dispatch::Cancelled> {
        let call = TIMED.cancel(&self.keys, ids);
        read_cancelled(self.run(&TIMED.cancel, &call).unwrap()).unwrap()
    }

    fn reschedule(&mut self, id: u64, due: When) -> bool {
        let call = TIMED.reschedule(&self.keys, id, due);
        self.at_now(&TIMED.reschedule, call).unwrap() == Value::Int(1)
    }

    fn replay(&mut self, max_unfinished: u64, events: &[(u64, Vec<u8>)]) -> usize {
        let call = TIMED.replay(&self.keys, max_unfinished, events);
        number(&self.at_now(&TIMED.replay, call).unwrap())
    }

    fn purge(&mut self, max: usize) -> usize {
        let call = TIMED.purge(&self.keys, max);
        number(&self.run(&TIMED.purge, &call).unwrap())
    }

    fn pause(&mut self, is_paused: bool) -> bool {
        let call = TIMED.pause(&self.keys, is_paused);
        self.run(&TIMED.pause, &call).unwrap() == Value::Int(1)
    }

    fn view(&mut self, dead: bool, skip: usize, max: usize) -> Vec<Seen> {
        let call = TIMED.view(&self.keys, dead, skip, max);
        Seen::read(self.run(&TIMED.view, &call).unwrap()).unwrap()
    }

    fn account(&mut self) -> Account {
        let call = TIMED.counts(&self.keys);
        Account::read(self.at_now(&TIMED.counts, call).unwrap()).unwrap()
    }

    /// Audits the whole topic and returns how many events were found.
    fn audit(&mut self) -> u64 {
        let mut cursors = ("0".to_owned(), "0".to_owned());
        let mut found = 0;
        loop {
            let call = TIMED.audit(&self.keys, &cursors);
            let audited = Audited::read(self.at_now(&TIMED.audit, call).unwrap()).unwrap();
            found += audited.found;
            cursors = audited.cursors;
            if (&*cursors.0, &*cursors.1) == ("0", "0") {
                return found;
            }
        }
    }
}

/// The number that a script returned.
fn number(value: &Value) -> usize {
    match value {
        Value::Int(number) => usize::try_from(*number).unwrap(),
        other => panic!("{other:?} is no number"),
    }
}

/// A call that wants no event and brings no outcome.
fn idle(outcomes: &Outcomes) -> WorkCall<'_> {
    WorkCall {
        session: "s",
        seq: 1,
        want: 0,
        lease: 1_000,
        max_bytes: usize::MAX,
        everywhere: 0,
        interval: 0,
        max_dead: 9,
        random: 0.5,
        outcomes,
    }
}
