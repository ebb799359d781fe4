//! What hands, evictions, full memory and extreme numbers do to a topic.

use super::*;
use crate::dispatch::{Cancelled, OnDuplicate};

/// An event with a unique key.
fn unique(key: &str, policy: OnDuplicate, payload: &[u8]) -> Vec<Emission> {
    vec![Emission {
        due: When::Now,
        unique: Some((key.to_owned(), policy)),
        payload: payload.to_vec(),
    }]
}

impl Store {
    /// Emits groups of events in a new call.
    fn emit(&mut self, groups: &[Vec<Emission>]) -> Vec<GroupReply> {
        self.seq += 1;
        let seq = self.seq;
        self.emit_as("s", seq, 1_000, groups).unwrap().unwrap()
    }

    /// Ends attempts and claims events in a new call.
    fn turn(&mut self, want: usize, outcomes: &Outcomes) -> WorkReply {
        self.seq += 1;
        let call = WorkCall {
            seq: self.seq,
            want,
            ..idle(outcomes)
        };
        self.work(&call).unwrap()
    }

    /// The equation of the account.
    fn balance(&mut self) -> i128 {
        let account = self.account();
        let places = account.waiting + account.running + account.dead;
        let ends = account.done + account.cancelled + account.purged + account.lost;
        i128::from(account.emitted) - i128::from(places) - i128::from(ends)
    }
}

#[test]
fn none_is_not_all() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    store.emit(&[plain(&["x", "y", "z"])]);
    let fence = store.turn(2, &Outcomes::default()).fence;
    let dead = |id| (id, fence, b"no".to_vec());
    let outcomes = Outcomes {
        dead: vec![dead(1), dead(2)],
        ..Outcomes::default()
    };
    store.turn(0, &outcomes);
    assert!(store.view(false, 0, 0).is_empty() && store.view(true, 0, 0).is_empty());
    assert_eq!((store.purge(0), store.purge(1), store.purge(9)), (0, 1, 1));
    assert!(store.view(false, usize::MAX, usize::MAX).is_empty());
    assert!(store.cancel(&[]).is_empty());
    assert_eq!(store.replay(9, &[]), 0);
    assert!(store.renew(9, &[]).gone.is_empty());
    assert!(store.emit(&[]).is_empty());
    assert_eq!(
        store.emit(&[Vec::new()]),
        [GroupReply::Accepted(4)],
        "no event"
    );
    assert_eq!(store.balance(), 0);
}

#[test]
fn events_of_a_far_future_wait_in_order_and_everything_goes_on() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    let centuries = |count: u64| count * 100 * 365 * 24 * 3_600 * 1_000_000;
    let dues = [
        When::At(u64::MAX),
        When::After(u64::MAX),
        When::After(centuries(5) + 2),
        When::After(centuries(5)),
        When::After(centuries(1) + 1),
        When::After(centuries(1)),
        When::At(0),
    ];
    let event = |due| Emission {
        due,
        unique: None,
        payload: Vec::new(),
    };
    store.emit(&[dues.map(event).into()]);
    let order: Vec<u64> = store
        .view(false, 0, 9)
        .iter()
        .map(|event| event.id)
        .collect();
    assert_eq!(order, [7, 6, 5, 4, 3, 1, 2]);
    // Exact for 255 years, and to 2 us beyond.
    let due = |store: &mut Store, at: usize| store.view(false, at, 1)[0].at;
    assert_eq!(due(&mut store, 1), START + centuries(1));
    assert_eq!(due(&mut store, 2), START + centuries(1) + 1);
    assert_eq!(due(&mut store, 3), START + centuries(5));
    assert_eq!(due(&mut store, 5), LATEST);
    assert_eq!(store.turn(1, &Outcomes::default()).events.len(), 1);
    // A lease and an interval without end.
    let outcomes = Outcomes::default();
    store.emit(&[plain(&["x", "y"])]);
    let call = WorkCall {
        seq: 99,
        want: 9,
        lease: u64::MAX,
        interval: u64::MAX,
        max_dead: usize::MAX,
        everywhere: usize::MAX,
        ..idle(&outcomes)
    };
    let reply = store.work(&call).unwrap();
    assert_eq!(
        (reply.events.len(), reply.wait),
        (1, Some(1_000)),
        "until the other lease ends"
    );
    assert!(store.renew(u64::MAX, &[(8, reply.fence)]).lost.is_empty());
    assert!(store.reschedule(1, When::After(u64::MAX)));
    assert_eq!(store.balance(), 0);
    store.seq = 99;
    let max = EmitCall {
        session: "m",
        seq: u64::MAX >> 12,
        max_unfinished: u64::MAX,
    };
    let group = plain(&["x"]);
    let call = max.write(&TIMED, &store.keys, [&group[..]].into_iter());
    let reply = store.at_now(&TIMED.emit, call).unwrap();
    assert!(matches!(
        GroupReply::read(reply).unwrap().unwrap()[0],
        GroupReply::Accepted(_)
    ));
}

#[test]
fn counters_that_a_hand_changed_raise_no_error() {
    let Some(server) = for_test(&[]) else { return };
    for (topic, value) in [
        ("a", "x"),
        ("b", ""),
        ("c", "9223372036854775807"),
        ("d", "-1.5e3"),
    ] {
        let mut store = Store::new(&server, topic);
        let counters = store.keys.counters.clone();
        store.emit(&[plain(&["x", "y", "z", "v"])]);
        for name in [
            "emitted",
            "done",
            "cancelled",
            "purged",
            "lost",
            "died",
            "replayed",
            "retried",
            "put_off",
            "lapsed",
            "stale",
            "last",
            "grace",
            "tat",
            "es",
            "ws",
        ] {
            store.command(&["HSET", &counters, name, value]);
        }
        store.emit(&[plain(&["w"])]);
        store.now = START + 10_000_000_000_000_000;
        store.command(&["HDEL", &counters, "grace", "tat"]);
        let reply = store.turn(3, &Outcomes::default());
        let fence = reply.fence;
        let outcomes = Outcomes {
            done: vec![(1, fence), (9, fence)],
            again: vec![Again {
                id: 2,
                fence,
                due: When::Now,
                record: None,
                counts: true,
            }],
            dead: vec![(3, fence, Vec::new())],
        };
        assert_eq!(store.turn(1, &outcomes).stale, [9]);
        assert_eq!(store.replay(99, &[(3, Vec::new())]), 1);
        assert_eq!(store.cancel(&[3]), [Cancelled::Waiting]);
        store.purge(1);
        store.audit();
        assert!(matches!(store.view(false, 0, 9).len(), 2 | 3), "{topic}");
    }
}

#[test]
fn a_whole_batch_of_each_kind_is_taken() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    let groups: Vec<_> = (0..MOST)
        .map(|at| unique(&format!("k{at}"), OnDuplicate::Error, b"x"))
        .collect();
    let all = |kind: u8, reply: &WorkReply| {
        let ids = reply.events.iter().map(|event| event.id);
        let fence = reply.fence;
        let mut outcomes = Outcomes::default();
        match kind {
            0 => outcomes.done = ids.map(|id| (id, fence)).collect(),
            1 => outcomes.dead = ids.map(|id| (id, fence, b"no".to_vec())).collect(),
            _ => {
                let again = |id| Again {
                    id,
                    fence,
                    due: When::Now,
                    record: Some(b"again".to_vec()),
                    counts: true,
                };
                outcomes.again = ids.map(again).collect();
            }
        }
        outcomes
    };
    for kind in [2, 1, 0] {
        let accepted = store.emit(&groups);
        let is_new = matches!(accepted[MOST - 1], GroupReply::Accepted(_));
        assert_eq!(is_new, kind != 1, "the keys are taken until an event ends");
        let reply = store.turn(MOST, &Outcomes::default());
        assert_eq!(reply.events.len(), MOST);
        let outcomes = all(kind, &reply);
        assert!(store.turn(0, &outcomes).stale.is_empty());
    }
    store.emit(&groups);
    let replaced: Vec<_> = (0..MOST)
        .map(|at| unique(&format!("k{at}"), OnDuplicate::Replace, b"new"))
        .collect();
    let kept = store.emit(&replaced);
    assert!(
        kept.iter()
            .all(|reply| matches!(reply, GroupReply::Kept(_)))
    );
    let waiting: Vec<u64> = store
        .view(false, 0, MOST)
        .iter()
        .map(|event| event.id)
        .collect();
    assert_eq!(store.cancel(&waiting), [Cancelled::Waiting; MOST]);
    assert!(
        matches!(store.emit(&groups)[0], GroupReply::Accepted(_)),
        "the keys are free"
    );
    assert_eq!(store.balance(), 0);
}

#[test]
fn any_bytes_come_back_as_they_were() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "a:/-._b");
    let all: Vec<u8> = (0..=255).chain(*b"\r\n$-1\r\n").collect();
    let keys = ["", " ", "\0", "\r\n", "{x}", "ä", "k", "~", "9"];
    let groups: Vec<_> = keys
        .iter()
        .map(|key| unique(key, OnDuplicate::Error, &all))
        .collect();
    store.emit(&groups);
    let again = store.emit(&groups);
    assert!(
        again
            .iter()
            .enumerate()
            .all(|(at, it)| *it == GroupReply::Duplicate(at as u64 + 1))
    );
    store.emit(&[plain(&[""])]);
    let reply = store.turn(99, &Outcomes::default());
    assert!(reply.events[..9].iter().all(|event| event.payload == all));
    assert_eq!(reply.events[9].payload, b"");
    let fence = reply.fence;
    let outcomes = Outcomes {
        dead: vec![(1, fence, all.clone()), (10, fence, Vec::new())],
        ..Outcomes::default()
    };
    store.turn(0, &outcomes);
    let dead = store.view(true, 0, 9);
    assert_eq!(
        (&dead[0].payload, &dead[0].record),
        (&Some(all.clone()), &Some(all))
    );
    assert_eq!(
        (&dead[1].payload, &dead[1].record),
        (&Some(Vec::new()), &Some(Vec::new()))
    );
    assert_eq!(
        store.emit(&groups)[0],
        GroupReply::Accepted(11),
        "a key that is empty is freed too"
    );
}

#[test]
fn a_key_that_is_gone_stops_nothing() {
    let Some(server) = for_test(&[]) else { return };
    let letters = ["q", "l", "p", "t", "f", "u", "d", "c", "w"];
    for letter in letters {
        let mut store = Store::new(&server, letter);
        store.emit(&[
            plain(&["1", "2", "3", "4"]),
            unique("k", OnDuplicate::Keep, b"5"),
        ]);
        let fence = store.turn(3, &Outcomes::default()).fence;
        let outcomes = Outcomes {
            dead: vec![(3, fence, b"no".to_vec())],
            ..Outcomes::default()
        };
        store.turn(0, &outcomes);
        store.command(&["DEL", &format!("{{lv:{letter}}}:{letter}")]);

        store.now += 1;
        store.audit();
        store.now += 1;
        let kept = store.emit(&[unique("k", OnDuplicate::Error, b"6"), plain(&["7"])]);
        let accepted = |reply: &GroupReply| matches!(reply, GroupReply::Accepted(id) if *id > 5);
        assert!(accepted(&kept[1]), "{letter}: {kept:?}");
        let outcomes = Outcomes {
            done: vec![(1, fence)],
            ..Outcomes::default()
        };
        store.turn(0, &outcomes);
        store.renew(1_000, &[(2, fence)]);
        // All that is left can be handled, and then the unique key is free.
        for _ in 0..5 {
            store.now += 500;
            let reply = store.turn(99, &Outcomes::default());
            let outcomes = Outcomes {
                done: reply
                    .events
                    .iter()
                    .map(|event| (event.id, reply.fence))
                    .collect(),
                ..Outcomes::default()
            };
            assert!(store.turn(0, &outcomes).stale.is_empty(), "{letter}");
        }
        let account = store.account();
        assert_eq!((account.waiting, account.running), (0, 0), "{letter}");
        assert_eq!(account.dead, u64::from(letter != "d"), "{letter}");
        let free = store.emit(&[unique("k", OnDuplicate::Error, b"8")]);
        assert!(accepted(&free[0]), "{letter}: {free:?}");
        if !["c", "d", "l", "t"].contains(&letter) {
            assert_eq!(store.balance(), 0, "{letter}");
        }
    }
}

#[test]
fn ids_do_not_begin_anew_while_payloads_remain() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    store.emit(&[plain(&["old"; 3])]);
    let counters = store.keys.counters.clone();
    store.command(&["DEL", &counters]);
    assert_eq!(
        store.emit(&[plain(&["new"])]),
        [GroupReply::Accepted(START / 1_000 + 1)]
    );
    let reply = store.turn(9, &Outcomes::default());
    let payloads: Vec<_> = reply
        .events
        .iter()
        .map(|event| &event.payload[..])
        .collect();
    assert_eq!(payloads, [&b"old"[..], b"old", b"old", b"new"]);
}

#[test]
fn without_its_anchors_a_topic_works_as_before() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    store.emit(&[plain(&["x"; 3])]);
    let Keys {
        payloads,
        tokens,
        running,
        ..
    } = store.keys.clone();
    let long = "~".repeat(65);
    for words in [
        ["HDEL", &payloads, "~"],
        ["HDEL", &tokens, "~"],
        ["ZREM", &running, &long],
    ] {
        assert_eq!(store.command(&words), Value::Int(1));
    }
    let reply = store.turn(2, &Outcomes::default());
    assert_eq!((reply.events.len(), store.account().running), (2, 2));
    let outcomes = Outcomes {
        done: vec![(1, reply.fence), (2, reply.fence)],
        ..Outcomes::default()
    };
    assert!(store.turn(0, &outcomes).stale.is_empty());
    assert_eq!((store.audit(), store.balance()), (0, 0));
}

#[test]
fn a_full_memory_refuses_events_and_lets_work_go_on() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    store.emit(&[plain(&["1", "2", "3", "4", "5"])]);
    let fence = store.turn(3, &Outcomes::default()).fence;
    let limit = |bytes: &str| {
        let set = server.command(&["CONFIG", "SET", "maxmemory", bytes]);
        assert_eq!(set.unwrap(), "+OK\r\n");
    };
    limit("1");
    let before = store.account();
    let refused = store.emit_as("o", 1, 99, &[plain(&["6"])]).unwrap_err();
    assert!(
        matches!(&refused, LinkError::Server { code, .. } if code == "OOM"),
        "{refused:?}"
    );
    assert!(!refused.is_passing());
    assert_eq!(store.account(), before);
    assert!(store.renew(1_000, &[(1, fence)]).lost.is_empty());
    let outcomes = Outcomes {
        done: vec![(1, fence)],
        again: vec![Again {
            id: 2,
            fence,
            due: When::Now,
            record: Some(b"again".to_vec()),
            counts: true,
        }],
        dead: vec![(3, fence, b"no".to_vec())],
    };
    let reply = store.turn(1, &outcomes);
    assert_eq!((reply.events.len(), reply.stale.len()), (1, 0));
    assert_eq!(store.cancel(&[5]), [Cancelled::Waiting]);
    assert!(store.reschedule(4, When::After(9)) || store.reschedule(2, When::After(9)));
    let call = TIMED.replay(&store.keys, 99, &[(3, Vec::new())]);
    assert!(
        store.at_now(&TIMED.replay, call).is_err(),
        "it adds an event that waits"
    );
    assert_eq!((store.purge(9), store.audit()), (1, 0));
    assert!(store.pause(true));
    limit("0");
    let accepted = store.emit_as("o", 1, 99, &[plain(&["6"])]).unwrap();
    assert_eq!(accepted, Some(vec![GroupReply::Accepted(6)]));
    assert_eq!(store.balance(), 0);
}

#[test]
fn a_key_of_another_type_is_an_error_without_effect() {
    let Some(server) = for_test(&[]) else { return };
    for letter in ["q", "l", "u", "c", "w"] {
        let mut store = Store::new(&server, letter);
        let key = format!("{{lv:{letter}}}:{letter}");
        store.command(&["SET", &key, "x"]);
        let event = unique("k", OnDuplicate::Error, b"x");
        let error = store
            .emit_as("s", 1, 99, &[plain(&["x"]), event])
            .unwrap_err();
        assert!(
            matches!(&error, LinkError::Server { code, .. } if code == "WRONGTYPE"),
            "{error:?}"
        );
        let found = store.command(&["DBSIZE"]);
        store.command(&["DEL", &key]);
        assert_eq!(found, Value::Int(1), "{letter}: only what was set");
    }
}
