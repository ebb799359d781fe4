//! What each operation does to the plan, and what the scripts are to reply.

use super::*;

impl World {
    pub(super) fn new(store: Store) -> Self {
        let mut plan = Plan::new(LIMITS.0, LIMITS.1);
        let topic = plan.add_topic(LIMITS.0);
        plan.set_limits(topic, Some(limits(0, 0)));
        World {
            store,
            plan,
            topic,
            attempts: Vec::new(),
            running: BTreeMap::new(),
            records: BTreeMap::new(),
            lapses: BTreeMap::new(),
            unique: BTreeMap::new(),
            gone: BTreeSet::new(),
            last: None,
            grace: 0,
            fence: 0,
            has_token: false,
            sessions: Default::default(),
            ids: Vec::new(),
            payload: 0,
            lost: 0,
            lapsed: 0,
            misplaced: 0,
            stale: 0,
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.store.now
    }

    /// The time of the plan, ns.
    pub(super) fn ns(&self) -> u64 {
        self.store.now * 1_000
    }

    /// The events that wait, in order: when they are due, us, and their ids.
    pub(super) fn waiting(&self) -> Vec<(u64, u64)> {
        let waiting = self.plan.peek(self.topic, usize::MAX).into_iter();
        waiting
            .map(|event| (event.due / 1_000, event.id.get()))
            .collect()
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.waiting().first().map(|(due, _)| *due)
    }

    /// One of all events that there ever were.
    pub(super) fn id(&self, which: usize) -> u64 {
        // The latest ones more often, because most others have ended.
        let back = which % self.ids.len().clamp(1, 16);
        self.ids.iter().rev().nth(back).copied().unwrap_or(77)
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Pass(us) => self.store.now += us,
            Action::Outlive(us) => self.outlive(us),
            Action::Emit(session, groups) => self.emit(session, &groups),
            Action::Work(work) => self.work(&work),
            Action::Renew(which) => self.renew(&which),
            Action::Cancel(which) => self.cancel(&which),
            Action::Reschedule(which, due) => self.reschedule(which, due),
            Action::Replay(max) => self.replay(max),
            Action::Purge => {
                let purged = self.plan.purge(self.topic).len();
                assert_eq!(self.store.purge(MOST), purged);
            }
            Action::Pause(is_paused) => {
                let is_changed = self.plan.set_paused(self.topic, is_paused);
                assert_eq!(self.store.pause(is_paused), is_changed);
                self.has_token |= is_changed && !is_paused;
            }
            Action::Lose(which) => {
                let id = self.id(which);
                let payloads = self.store.keys.payloads.clone();
                let removed = self.store.command(&["HDEL", &payloads, &write_id(id)]);
                if removed == Value::Int(1) {
                    self.gone.insert(id);
                }
            }
            Action::Misplace(which) => self.misplace(which),
            Action::Repeat(session, true) => self.repeat_emit(session),
            Action::Repeat(session, false) => self.repeat_work(session),
            Action::Late(session, is_emit) => self.late(session, is_emit),
            Action::Wake => {
                let wake = self.store.keys.wake.clone();
                let token = self.store.command(&["LPOP", &wake]);
                assert_eq!(token != Value::Nil, self.has_token);
                self.has_token = false;
            }
        }
    }

    /// The number of the next call of a session.
    pub(super) fn seq(&mut self, session: usize) -> u64 {
        self.sessions[session].seq += 2;
        self.sessions[session].seq
    }

    pub(super) fn emit(&mut self, session: usize, groups: &[New]) {
        let (now, ns) = (self.now(), self.ns());
        let first = self.first();
        let mut earliest = None::<u64>;
        let (mut call, mut expected) = (Vec::new(), Vec::new());
        for group in groups {
            let mut events = Vec::new();
            let dues = match group {
                New::Plain(dues) => &dues[..],
                New::Unique(due, ..) => std::slice::from_ref(due),
            };
            let unique = match group {
                New::Plain(_) => None,
                // The first key is empty.
                New::Unique(_, key, policy) => Some(("k".repeat(usize::from(*key)), *policy)),
            };
            for due in dues {
                self.payload += 1;
                events.push(Emission {
                    due: due.when(now),
                    unique: unique.clone(),
                    payload: self.payload.to_string().into_bytes(),
                });
            }
            let mut reply = GroupReply::Full;
            if unique.is_some() || self.plan.has_room(self.topic, events.len()) {
                for (due, event) in dues.iter().zip(&events) {
                    let due = due.us(now);
                    let key = unique.as_ref().map(|(key, policy)| (&**key, *policy));
                    let payload = event.payload.clone();
                    let emitted = self
                        .plan
                        .emit(self.topic, payload, Some(due * 1_000), key, ns);
                    let this = match emitted {
                        Err((Refusal::Duplicate(other), _)) => GroupReply::Duplicate(other.get()),
                        Err(_) => GroupReply::Full,
                        Ok(emitted) if emitted.unneeded.is_some() => {
                            let id = emitted.id.get();
                            if matches!(unique, Some((_, OnDuplicate::Replace))) {
                                self.records.remove(&id);
                                self.lapses.remove(&id);
                                self.gone.remove(&id);
                                earliest = Some(earliest.unwrap_or(due).min(due));
                            }
                            GroupReply::Kept(id)
                        }
                        Ok(emitted) => {
                            let id = emitted.id.get();
                            self.ids.push(id);
                            if let Some((key, _)) = &unique {
                                self.unique.insert(key.clone(), id);
                            }
                            earliest = Some(earliest.unwrap_or(due).min(due));
                            GroupReply::Accepted(id)
                        }
                    };
                    if event.payload == events[0].payload {
                        reply = this;
                    }
                }
            }
            call.push(events);
            expected.push(reply);
        }
        let seq = self.seq(session);
        let reply = self
            .store
            .emit_as(NAMES[session], seq, LIMITS.0 as u64, &call);
        assert_eq!(reply.unwrap(), Some(expected.clone()));
        self.sessions[session].emit = Some((seq, call, expected));
        self.has_token |= earliest.is_some_and(|due| first.is_none_or(|first| due < first));
    }

    /// Lets time pass, without an outage, until 1 us before the first lease ends and `us` more.
    pub(super) fn outlive(&mut self, us: u64) {
        let Some(ends) = self.running.values().map(|running| running.ends).min() else {
            return;
        };
        let end = ends.max(self.grace) + us - 1;
        while self.now() < end {
            self.store.now = end.min(self.now() + LEASE / 2);
            self.work(&Work {
                session: 0,
                want: 0,
                max_bytes: 0,
                everywhere: 0,
                interval: 0,
                random: 0.25,
                ends: Vec::new(),
            });
            self.validate();
        }
    }

    pub(super) fn repeat_emit(&mut self, session: usize) {
        let Some((seq, call, expected)) = self.sessions[session].emit.clone() else {
            return;
        };
        let reply = self
            .store
            .emit_as(NAMES[session], seq, LIMITS.0 as u64, &call);
        assert_eq!(reply.unwrap(), Some(expected));
    }

    pub(super) fn cancel(&mut self, which: &[usize]) {
        let ids: Vec<u64> = which.iter().map(|which| self.id(*which)).collect();
        let cancelled: Vec<Cancelled> = ids.iter().map(|id| self.cancel_one(*id)).collect();
        assert_eq!(self.store.cancel(&ids), cancelled);
    }

    pub(super) fn cancel_one(&mut self, id: u64) -> Cancelled {
        let cancelled = match self.plan.cancel(self.topic, EventId::new(id)) {
            Removed::Waiting(_) => Cancelled::Waiting,
            Removed::Dead(_) => Cancelled::Dead,
            Removed::Unknown => return Cancelled::Unknown,
            Removed::Running(token) => {
                let ended = self.running.remove(&id).unwrap();
                let ns = self.ns();
                let finished = self.plan.finish(token, ended.payload, Outcome::Done, ns);
                assert!(matches!(finished, Finished::Stale(_)));
                Cancelled::Running
            }
        };
        self.free_key(id);
        cancelled
    }

    pub(super) fn reschedule(&mut self, which: usize, due: Due) {
        let (id, now) = (self.id(which), self.now());
        let (first, us) = (self.first(), due.us(now));
        let ns = self.ns();
        let is_moved = self
            .plan
            .reschedule(self.topic, EventId::new(id), us * 1_000, ns);
        assert_eq!(self.store.reschedule(id, due.when(now)), is_moved);
        self.has_token |= is_moved && first.is_some_and(|first| us < first);
    }

    pub(super) fn replay(&mut self, max: usize) {
        let dead = self.plan.dead(self.topic, max).into_iter();
        let dead: Vec<_> = dead
            .map(|(_, entry)| (entry.id.get(), b"0".to_vec()))
            .collect();
        let ns = self.ns();
        let replayed = self.plan.replay(self.topic, max, ns);
        assert_eq!(self.store.replay(LIMITS.0 as u64, &dead), replayed);
        self.records.extend(dead.into_iter().take(replayed));
        self.has_token |= replayed > 0;
    }

    pub(super) fn misplace(&mut self, which: usize) {
        let id = self.id(which);
        let (now, ns) = (self.now(), self.ns());
        if self.gone.contains(&id) {
            return;
        }
        let keys = self.store.keys.clone();
        let event = write_id(id);
        if self.plan.reschedule(self.topic, EventId::new(id), ns, ns) {
            self.store.command(&["ZREM", &keys.waiting, &event]);
        } else if let Some(ended) = self.running.remove(&id) {
            let outcome = again(Some(0), false);
            self.plan.finish(ended.token, ended.payload, outcome, ns);
            self.store.command(&["ZREM", &keys.running, &event]);
            self.misplaced += 1;
        } else {
            return;
        }
        assert_eq!(self.store.audit(), 1, "{id} at {now}");
    }

    pub(super) fn is_current(&self, id: u64, fence: u64) -> bool {
        let running = self.running.get(&id);
        running.is_some_and(|running| running.fence == fence)
    }

    pub(super) fn free_key(&mut self, id: u64) {
        self.unique.retain(|_, other| *other != id);
    }

    /// All events that wait, run or are dead.
    pub(super) fn all(&self) -> BTreeSet<u64> {
        let dead = self.plan.dead(self.topic, usize::MAX).into_iter();
        let waiting = self.waiting().into_iter().map(|(_, id)| id);
        let running = self.running.keys().copied();
        dead.map(|(_, entry)| entry.id.get())
            .chain(waiting)
            .chain(running)
            .collect()
    }
}
