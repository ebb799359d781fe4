//! Compares all that is stored of a topic.

use super::super::super::super::reply::Reply;
use super::*;

/// All that is stored of a topic, as a script returns it.
const DUMP: &str = "local function all(key) return redis.call('HGETALL', key) end
local q, l, d = unpack(KEYS)
return {redis.call('ZRANGE', q, 0, -1, 'WITHSCORES'), redis.call('ZRANGE', l, 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', d, 0, -1, 'WITHSCORES'), all(KEYS[4]), all(KEYS[5]), all(KEYS[6]), all(KEYS[7]),
  redis.call('LLEN', KEYS[8])}";

/// Pairs of texts.
type Pairs = BTreeMap<String, String>;

impl World {
    /// Compares all that is stored.
    pub(super) fn validate(&mut self) {
        self.plan.validate();
        let all = self.all();
        self.records.retain(|id, _| all.contains(id));
        self.lapses.retain(|id, _| all.contains(id));
        self.gone.retain(|id| all.contains(id));

        let waiting = self.plan.peek(self.topic, usize::MAX).into_iter();
        let mut events: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let waiting: Vec<_> = waiting
            .map(|entry| {
                events.insert(entry.id.get(), entry.payload);
                (write_id(entry.id.get()), entry.due / 1_000)
            })
            .collect();
        let dead = self.plan.dead(self.topic, usize::MAX).into_iter();
        let dead: Vec<_> = dead
            .map(|(died, entry)| {
                events.insert(entry.id.get(), entry.payload);
                (write_id(entry.id.get()), died / 1_000)
            })
            .collect();
        let running = self.running.iter();
        let mut running: Vec<_> = running.map(|(id, it)| (it.ends, write_id(*id))).collect();
        running.sort_unstable();
        let tokens = self.running.iter();
        let tokens: Pairs = tokens
            .map(|(id, it)| (write_id(*id), it.fence.to_string()))
            .collect();
        for (id, running) in &self.running {
            events.insert(*id, running.payload.clone());
        }
        let events = events.into_iter().filter(|(id, _)| !self.gone.contains(id));
        let payloads: Pairs = events
            .map(|(id, payload)| (write_id(id), text(payload)))
            .collect();
        let records = self
            .records
            .iter()
            .map(|(id, record)| (write_id(*id), text(record.clone())));
        let lapses = self
            .lapses
            .iter()
            .map(|(id, n)| (format!("x{}", write_id(*id)), n.to_string()));
        let failures: Pairs = records.chain(lapses).collect();
        let unique = self.unique.iter().flat_map(|(key, id)| {
            let id = write_id(*id);
            [
                (format!("k{key}"), id.clone()),
                (format!("i{id}"), key.clone()),
            ]
        });
        let unique: Pairs = unique.collect();

        let mut call = cmd("EVAL");
        let keys = &self.store.keys;
        call.arg(DUMP).arg(8);
        for key in [&keys.waiting, &keys.running, &keys.dead, &keys.payloads] {
            call.arg(key);
        }
        for key in [&keys.tokens, &keys.failures, &keys.unique, &keys.wake] {
            call.arg(key);
        }
        let mut dump = Reply::new(self.store.link.query(&call).unwrap()).unwrap();
        assert_eq!(scores(&mut dump), waiting);
        let leases = scores(&mut dump).into_iter();
        assert_eq!(
            leases.map(|(id, ends)| (ends, id)).collect::<Vec<_>>(),
            running
        );
        assert_eq!(scores(&mut dump), dead);
        assert_eq!(pairs(&mut dump), payloads);
        assert_eq!(pairs(&mut dump), tokens);
        assert_eq!(pairs(&mut dump), failures);
        assert_eq!(pairs(&mut dump), unique);
        assert_eq!(dump.number().unwrap(), u64::from(self.has_token));

        let counts = self.plan.counts(self.topic);
        let account = self.store.account();
        let expected = Account {
            now: self.now(),
            waiting: counts.waiting,
            ready: self.plan.due_by(self.topic, self.ns()) as u64,
            running: self.running.len() as u64,
            dead: dead.len() as u64,
            emitted: counts.emitted,
            done: counts.done,
            cancelled: counts.cancelled - self.lost,
            purged: counts.purged,
            lost: self.lost,
            died: counts.died,
            replayed: counts.replayed,
            retried: counts.retried,
            put_off: counts.put_off - self.lapsed - self.misplaced,
            lapsed: self.lapsed,
            stale: self.stale,
            is_paused: self.plan.is_paused(self.topic),
        };
        assert_eq!(account, expected);
        let places = account.waiting + account.running + account.dead;
        let ends = account.done + account.cancelled + account.purged + account.lost;
        assert_eq!(account.emitted, places + ends);
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// The members of a sorted set with their scores; what keeps the set from a compact encoding is left out.
fn scores(dump: &mut Reply) -> Vec<(String, u64)> {
    let mut values = dump.array().unwrap();
    let mut members = Vec::new();
    while values.len() > 0 {
        let (member, score) = (values.text().unwrap(), values.text().unwrap());
        if !member.starts_with('~') {
            members.push((member, score.parse().unwrap()));
        }
    }
    members
}

/// The fields of a hash with their values; what keeps the hash from a compact encoding is left out.
fn pairs(dump: &mut Reply) -> Pairs {
    let mut values = dump.array().unwrap();
    let mut fields = Pairs::new();
    while values.len() > 0 {
        fields.insert(values.text().unwrap(), values.text().unwrap());
    }
    fields.remove("~");
    fields
}
