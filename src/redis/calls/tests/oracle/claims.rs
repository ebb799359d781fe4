//! The calls of a worker: outcomes, claims and renewals.

use super::*;

impl World {
    pub(super) fn work(&mut self, work: &Work) {
        let (now, ns) = (self.now(), self.ns());
        let limits = limits(work.everywhere, work.interval);
        self.plan.set_limits(self.topic, Some(limits));
        let mut expected = WorkReply {
            now,
            wait: None,
            grace: 0,
            lapsed: 0,
            lost: 0,
            fence: now.max(self.fence + 1),
            stale: Vec::new(),
            events: Vec::new(),
        };
        let is_outage = self.last.is_some_and(|last| now - last > LEASE / 2);
        if is_outage && !self.running.is_empty() {
            self.grace = now + LEASE;
            expected.grace = LEASE;
        }
        self.last = Some(now);
        self.fence = expected.fence;
        let outcomes = self.end(&work.ends, &mut expected.stale);
        if now >= self.grace {
            expected.lapsed = self.lapse(work.random);
        }
        self.claim(work, &mut expected);
        let is_ready = self.plan.is_ready(ns);
        self.has_token |= is_ready;
        let start = if is_ready {
            Some(now)
        } else {
            self.plan.next_due().map(|due| due / 1_000)
        };
        let lapse = self.running.values().map(|running| running.ends).min();
        let lapse = lapse.map(|ends| ends.max(self.grace));
        expected.wait = start.into_iter().chain(lapse).min();
        expected.wait = expected.wait.map(|at| at.saturating_sub(now));
        let seq = self.seq(work.session);
        self.sessions[work.session].work = Some((seq, expected.fence, now + LEASE));
        let reply = self.store.work(&WorkCall {
            session: NAMES[work.session],
            seq,
            want: work.want,
            lease: LEASE,
            max_bytes: work.max_bytes,
            everywhere: work.everywhere,
            interval: work.interval,
            max_dead: LIMITS.1,
            random: work.random,
            outcomes: &outcomes,
        });
        assert_eq!(reply, Some(expected));
    }

    /// Ends attempts in the plan, in the order in which the script does.
    pub(super) fn end(&mut self, ends: &[(usize, End)], stale: &mut Vec<u64>) -> Outcomes {
        let mut chosen: Vec<(Attempt, End)> = Vec::new();
        for &(which, end) in ends {
            let Some(attempt) = self.attempts.get(which % self.attempts.len().max(1)) else {
                continue;
            };
            let is_it = |(other, _): &(Attempt, End)| {
                (other.id, other.fence) == (attempt.id, attempt.fence)
            };
            if !chosen.iter().any(is_it) {
                chosen.push((attempt.clone(), end));
            }
        }
        chosen.sort_by_key(|(_, end)| match end {
            End::Done => 0,
            End::Again(..) => 1,
            End::Dead => 2,
        });
        let (now, ns) = (self.now(), self.ns());
        let mut outcomes = Outcomes::default();
        for (attempt, end) in chosen {
            let Attempt {
                id,
                fence,
                due,
                number,
            } = attempt;
            let record = |number: u32| Some(number.to_string().into_bytes());
            let (outcome, record) = match end {
                End::Done => {
                    outcomes.done.push((id, fence));
                    (Outcome::Done, None)
                }
                End::Again(delay, counts) => {
                    let record =
                        record(number - u32::from(!counts)).filter(|_| counts || number % 2 == 0);
                    outcomes.again.push(Again {
                        id,
                        fence,
                        due: delay.map_or(When::At(due), When::After),
                        record: record.clone(),
                        counts,
                    });
                    (again(delay, counts), record)
                }
                End::Dead => {
                    let record = record(number);
                    outcomes.dead.push((id, fence, record.clone().unwrap()));
                    (Outcome::Dead(Rest::default()), record)
                }
            };
            if !self.is_current(id, fence) {
                stale.push(id);
                self.stale += 1;
                continue;
            }
            let ended = self.running.remove(&id).unwrap();
            let finished = self.plan.finish(ended.token, ended.payload, outcome, ns);
            assert!(!matches!(finished, Finished::Stale(_)), "{id} at {now}");
            if let Some(record) = record {
                self.records.insert(id, record);
            }
            if matches!(end, End::Done | End::Dead) {
                self.lapses.remove(&id);
                self.free_key(id);
            }
            // Some are kept, to end once more.
            if fence % 4 != 0 {
                self.attempts
                    .retain(|other| (other.id, other.fence) != (id, fence));
            }
        }
        outcomes
    }

    /// Lets attempts lapse whose lease has ended, and returns how many.
    pub(super) fn lapse(&mut self, random: f64) -> u64 {
        let (now, ns) = (self.now(), self.ns());
        let running = self.running.iter();
        let ended = running.filter(|(_, running)| running.ends <= now);
        let mut ended: Vec<_> = ended.map(|(id, running)| (running.ends, *id)).collect();
        ended.sort_unstable();
        for (at, (_, id)) in ended.iter().enumerate() {
            let ended = self.running.remove(id).unwrap();
            let lapses = self.lapses.entry(*id).or_default();
            *lapses += 1;
            let mut spread = 0.0;
            if *lapses > 1 {
                let doublings = i32::try_from(*lapses).unwrap().min(6);
                spread =
                    random * 7_919.0 * (at + 1) as f64 % 1.0 * 1_000_000.0 * 2_f64.powi(doublings);
            }
            #[expect(clippy::cast_sign_loss, reason = "it is not negative")]
            let due = (now as f64 + spread).floor() as u64;
            let outcome = again(Some(due - now), false);
            self.plan.finish(ended.token, ended.payload, outcome, ns);
        }
        self.lapsed += ended.len() as u64;
        ended.len() as u64
    }

    /// Claims events in the plan.
    pub(super) fn claim(&mut self, work: &Work, expected: &mut WorkReply) {
        let (now, ns) = (self.now(), self.ns());
        let mut want = work.want;
        if work.everywhere > 0 {
            want = want.min(work.everywhere.saturating_sub(self.running.len()));
        }
        if work.interval > 0 {
            want = want.min(1);
        }
        let mut bytes = work.max_bytes;
        for _ in 0..want {
            if bytes == 0 || !self.plan.is_ready(ns) {
                break;
            }
            let (_, id) = self.waiting()[0];
            if self.gone.remove(&id) {
                self.plan.cancel(self.topic, EventId::new(id));
                self.free_key(id);
                self.lost += 1;
                expected.lost += 1;
                continue;
            }
            let mut runner = 0;
            while self
                .running
                .values()
                .any(|running| running.token.runner == runner)
            {
                runner += 1;
            }
            let start = self.plan.next(runner, ns).expect("it is ready");
            assert_eq!(start.token.id.get(), id);
            bytes = bytes.saturating_sub(start.payload.len());
            let record = self.records.get(&id).cloned();
            let attempts = record.as_ref().map_or(0, |record| {
                str::from_utf8(record).unwrap().parse::<u32>().unwrap()
            });
            assert_eq!(start.attempt, attempts + 1);
            let due = start.due / 1_000;
            expected.events.push(Claimed {
                id,
                due,
                payload: start.payload.clone(),
                record,
                lapses: self.lapses.get(&id).copied().unwrap_or(0),
            });
            let fence = expected.fence;
            self.running.insert(
                id,
                Running {
                    token: start.token,
                    fence,
                    ends: now + LEASE,
                    payload: start.payload,
                },
            );
            self.attempts.push(Attempt {
                id,
                fence,
                due,
                number: start.attempt,
            });
        }
        if self.attempts.len() > 12 {
            let surplus = self.attempts.len() - 12;
            self.attempts.drain(..surplus);
        }
    }

    pub(super) fn repeat_work(&mut self, session: usize) {
        let Some((seq, fence, ends)) = self.sessions[session].work else {
            return;
        };
        let mut events = Vec::new();
        for (&id, running) in &self.running {
            if (running.fence, running.ends) == (fence, ends) && !self.gone.contains(&id) {
                events.push(Claimed {
                    id,
                    due: self.now(),
                    payload: running.payload.clone(),
                    record: self.records.get(&id).cloned(),
                    lapses: self.lapses.get(&id).copied().unwrap_or(0),
                });
            }
        }
        let expected = WorkReply {
            now: self.now(),
            wait: Some(0),
            grace: 0,
            lapsed: 0,
            lost: 0,
            fence,
            stale: Vec::new(),
            events,
        };
        let outcomes = Outcomes::default();
        let call = WorkCall {
            session: NAMES[session],
            seq,
            want: 5,
            ..idle(&outcomes)
        };
        assert_eq!(self.store.work(&call), Some(expected));
    }

    /// A call comes too late, and does nothing.
    pub(super) fn late(&mut self, session: usize, is_emit: bool) {
        let Session { emit, work, .. } = self.sessions[session].clone();
        if is_emit {
            let Some((seq, call, _)) = emit else { return };
            let reply = self.store.emit_as(NAMES[session], seq - 1, 99, &call);
            assert_eq!(reply.unwrap(), None);
        } else if let Some((seq, ..)) = work {
            let outcomes = Outcomes {
                done: self
                    .running
                    .iter()
                    .map(|(id, it)| (*id, it.fence))
                    .collect(),
                ..Outcomes::default()
            };
            let call = WorkCall {
                session: NAMES[session],
                seq: seq - 1,
                want: 5,
                ..idle(&outcomes)
            };
            assert_eq!(self.store.work(&call), None);
        }
    }

    pub(super) fn renew(&mut self, which: &[usize]) {
        let now = self.now();
        let mut expected = RenewReply {
            grace: 0,
            lost: Vec::new(),
            gone: Vec::new(),
        };
        if self.last.is_some_and(|last| now - last > LEASE / 2) {
            self.grace = now + LEASE;
            expected.grace = LEASE;
        }
        self.last = Some(now);
        let events: BTreeSet<(u64, u64)> = which
            .iter()
            .filter_map(|which| self.attempts.get(*which))
            .map(|attempt| (attempt.id, attempt.fence))
            .collect();
        let exists = self.all();
        for &(id, fence) in &events {
            if self.is_current(id, fence) {
                self.running.get_mut(&id).unwrap().ends = now + LEASE;
            } else if exists.contains(&id) && !self.gone.contains(&id) {
                expected.lost.push(id);
            } else {
                expected.gone.push(id);
            }
        }
        let events: Vec<_> = events.into_iter().collect();
        assert_eq!(self.store.renew(LEASE, &events), expected);
    }
}
