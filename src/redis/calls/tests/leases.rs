//! Leases, fences and sessions: what only the scripts know.

use super::*;

/// A lease, us.
const LEASE: u64 = 1_000;

/// A topic with events of these payloads, the first of which is claimed.
fn claimed(server: &RedisServer, topic: &str, payloads: &[&str]) -> (Store, u64) {
    let mut store = Store::new(server, topic);
    store.emit_as("e", 1, 99, &[plain(payloads)]).unwrap();
    let reply = claim(&mut store, 1);
    assert_eq!(reply.events.len(), 1);
    (store, reply.fence)
}

/// Claims events.
fn claim(store: &mut Store, want: usize) -> WorkReply {
    finish(store, want, &Outcomes::default())
}

/// Ends attempts, and claims events.
fn finish(store: &mut Store, want: usize, outcomes: &Outcomes) -> WorkReply {
    store.seq += 1;
    let call = WorkCall {
        seq: store.seq,
        want,
        lease: LEASE,
        ..idle(outcomes)
    };
    store.work(&call).unwrap()
}

fn done(id: u64, fence: u64) -> Outcomes {
    Outcomes {
        done: vec![(id, fence)],
        ..Outcomes::default()
    }
}

#[test]
fn a_lease_lapses_when_it_ends_and_not_before() {
    let Some(server) = for_test(&[]) else { return };
    for (topic, after, lapsed) in [("a", LEASE - 1, 0), ("b", LEASE, 1), ("c", LEASE + 1, 1)] {
        let (mut store, fence) = claimed(&server, topic, &["x"]);
        // Half of the lease is no outage.
        store.now = START + LEASE / 2;
        claim(&mut store, 0);
        store.now = START + LEASE - 1;
        claim(&mut store, 0);
        store.now = START + after;
        let reply = claim(&mut store, 1);
        assert_eq!((reply.lapsed, reply.events.len() as u64), (lapsed, lapsed));
        let late = finish(&mut store, 0, &done(1, fence));
        assert_eq!(late.stale.len() as u64, lapsed);
        if lapsed == 1 {
            assert_eq!(
                (reply.events[0].lapses, reply.events[0].due),
                (1, store.now)
            );
            assert!(reply.fence > fence);
        }
    }
}

#[test]
fn a_renewed_lease_lapses_one_lease_after_its_renewal() {
    let Some(server) = for_test(&[]) else { return };
    let (mut store, fence) = claimed(&server, "t", &["x"]);
    store.now = START + LEASE / 2;
    assert!(store.renew(LEASE, &[(1, fence)]).lost.is_empty());
    store.now = START + LEASE;
    assert_eq!(claim(&mut store, 1).wait, Some(LEASE / 2));
    store.now = START + LEASE + LEASE / 2 - 1;
    assert_eq!(claim(&mut store, 1).lapsed, 0);
    store.now += 1;
    assert_eq!(claim(&mut store, 0).lapsed, 1);
    assert_eq!(store.renew(LEASE, &[(1, fence)]).lost, [1]);
    // A lease that has ended and that nobody missed is renewed.
    let again = claim(&mut store, 1);
    store.now += LEASE;
    let reply = store.renew(LEASE, &[(1, again.fence), (2, 7)]);
    assert_eq!((&reply.lost[..], &reply.gone[..]), (&[][..], &[2][..]));
    assert_eq!(claim(&mut store, 1).lapsed, 0);
}

#[test]
fn after_an_outage_nothing_lapses_for_one_lease() {
    let Some(server) = for_test(&[]) else { return };
    for (topic, is_renewal) in [("a", false), ("b", true)] {
        let (mut store, fence) = claimed(&server, topic, &["x", "y"]);
        // Half of a lease is no outage yet.
        store.now = START + LEASE / 2;
        assert_eq!(claim(&mut store, 0).grace, 0);
        store.now += LEASE / 2 + 1;
        let back = store.now;
        let grace = if is_renewal {
            store.renew(LEASE, &[]).grace
        } else {
            claim(&mut store, 0).grace
        };
        assert_eq!(grace, LEASE);
        let reply = claim(&mut store, 0);
        assert_eq!(
            (reply.lapsed, reply.grace, reply.wait),
            (0, 0, Some(0)),
            "the other is due"
        );
        for now in [back + LEASE / 2, back + LEASE - 1] {
            store.now = now;
            assert_eq!(claim(&mut store, 0).lapsed, 0);
        }
        assert!(store.renew(LEASE, &[(1, fence)]).lost.is_empty());
        store.now = back + LEASE;
        assert_eq!(claim(&mut store, 0).lapsed, 0, "renewed in time");
        // The other way: nobody renews, and the event lapses at the end of the grace.
        let (mut store, _) = claimed(&server, &format!("{topic}2"), &["x"]);
        store.now = START + LEASE + 1;
        assert_eq!(claim(&mut store, 0).wait, Some(LEASE));
        store.now = START + LEASE + LEASE / 2;
        claim(&mut store, 0);
        store.now = START + 2 * LEASE;
        assert_eq!(claim(&mut store, 0).lapsed, 0);
        store.now += 1;
        assert_eq!(claim(&mut store, 0).lapsed, 1);
    }
}

#[test]
fn without_running_events_a_silence_is_no_outage() {
    let Some(server) = for_test(&[]) else { return };
    let (mut store, fence) = claimed(&server, "t", &["x"]);
    finish(&mut store, 0, &done(1, fence));
    store.now += 10 * LEASE;
    assert_eq!(claim(&mut store, 0).grace, 0);
}

#[test]
fn later_lapses_are_spread_more_and_more() {
    let Some(server) = for_test(&[]) else { return };
    let (mut store, _) = claimed(&server, "t", &["x"]);
    for lapses in 1..10u32 {
        // Without a gap that is an outage.
        for _ in 0..3 {
            store.now += LEASE / 2;
            let reply = claim(&mut store, 0);
            assert_eq!(reply.grace, 0);
            if reply.lapsed == 1 {
                break;
            }
        }
        let due = store.view(false, 0, 1)[0].at;
        let longest = if lapses == 1 {
            0
        } else {
            1_000_000 << lapses.min(6)
        };
        assert!((store.now..=store.now + longest).contains(&due));
        // 0.5 · 7919 has a half behind the point.
        assert_eq!(due - store.now, longest / 2);
        store.now = due;
        let reply = claim(&mut store, 1);
        assert_eq!(
            (reply.events.len(), reply.events[0].lapses),
            (1, u64::from(lapses))
        );
    }
}

#[test]
fn at_most_64_leases_lapse_with_one_call() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    store.emit_as("e", 1, 999, &[plain(&["x"; 150])]).unwrap();
    assert_eq!(claim(&mut store, 150).events.len(), 150);
    store.now += LEASE / 2;
    claim(&mut store, 0);
    store.now += LEASE / 2;
    let lapsed: Vec<_> = [64, 64, 22, 0].map(|_| claim(&mut store, 0).lapsed).into();
    assert_eq!(lapsed, [64, 64, 22, 0]);
    assert_eq!(store.account().waiting, 150);
}

#[test]
fn fences_rise_although_the_clock_goes_back() {
    let Some(server) = for_test(&[]) else { return };
    let (mut store, first) = claimed(&server, "t", &["x"]);
    store.now -= 1_000_000_000;
    let outcomes = Outcomes {
        again: vec![Again {
            id: 1,
            fence: first,
            due: When::Now,
            record: None,
            counts: true,
        }],
        ..Outcomes::default()
    };
    let reply = finish(&mut store, 1, &outcomes);
    assert_eq!((reply.events.len(), reply.fence), (1, first + 1));
    // What an earlier attempt says is ignored, whatever it says, and counted.
    let late = Outcomes {
        done: vec![(1, first)],
        dead: vec![(1, first, b"no".to_vec())],
        ..outcomes
    };
    assert_eq!(finish(&mut store, 0, &late).stale, [1, 1, 1]);
    let own = finish(&mut store, 0, &done(1, reply.fence));
    assert!(own.stale.is_empty());
    let account = store.account();
    assert_eq!((account.done, account.stale, account.waiting), (1, 3, 0));
    // Counters that were lost do not let fences fall either.
    store.now = START + 5;
    store.emit_as("e", 2, 99, &[plain(&["y"])]).unwrap();
    let counters = store.keys.counters.clone();
    store.command(&["DEL", &counters]);
    assert_eq!(claim(&mut store, 1).fence, START + 5);
}

#[test]
fn a_repeated_call_has_the_same_effect_once_and_the_same_reply() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    let groups = [plain(&["x", "y"]), plain(&["z"])];
    let accepted = Some(vec![GroupReply::Accepted(1), GroupReply::Accepted(3)]);
    for _ in 0..3 {
        let reply = store.emit_as("a", 7, 99, &groups).unwrap();
        assert_eq!(reply, accepted);
        store.now += 9;
    }
    assert_eq!(store.emit_as("a", 6, 99, &groups).unwrap(), None);
    let other = store.emit_as("b", 7, 99, &groups).unwrap();
    assert_eq!(
        other.unwrap()[0],
        GroupReply::Accepted(4),
        "a session of its own"
    );
    assert_eq!(store.account().emitted, 6);

    let outcomes = Outcomes::default();
    let call = |session, seq| WorkCall {
        session,
        seq,
        want: 2,
        ..idle(&outcomes)
    };
    let first = store.work(&call("a", 1)).unwrap();
    assert_eq!(first.events.len(), 2);
    store.work(&call("b", 1)).unwrap();
    let again = store.work(&call("a", 1)).unwrap();
    assert_eq!(again.fence, first.fence);
    let ids = |reply: &WorkReply| {
        reply
            .events
            .iter()
            .map(|event| event.id)
            .collect::<Vec<_>>()
    };
    assert_eq!((ids(&again), store.account().running), (ids(&first), 4));
    // What has ended since, or runs under another fence, is not handed out again.
    store.cancel(&[1]);
    assert_eq!(ids(&store.work(&call("a", 1)).unwrap()), [2]);
    store.work(&call("a", 2)).unwrap();
    assert_eq!(store.work(&call("a", 1)), None);
}

#[test]
fn a_claim_ends_at_its_bytes_but_has_one_event_at_least() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    let long = "x".repeat(100);
    let payloads: Vec<&str> = std::iter::repeat_n(&*long, 99).collect();
    store.emit_as("e", 1, 999, &[plain(&payloads)]).unwrap();
    let outcomes = Outcomes::default();
    for (seq, (max_bytes, events)) in [(1, 1), (100, 1), (101, 2), (4_000, 40), (0, 0)]
        .into_iter()
        .enumerate()
    {
        let call = WorkCall {
            seq: seq as u64,
            want: 99,
            max_bytes,
            ..idle(&outcomes)
        };
        assert_eq!(
            store.work(&call).unwrap().events.len(),
            events,
            "{max_bytes}"
        );
    }
    assert_eq!(store.account().running, 44);
}

#[test]
fn starts_are_as_far_apart_as_the_rate_says() {
    let Some(server) = for_test(&[]) else { return };
    let mut store = Store::new(&server, "t");
    store.emit_as("e", 1, 99, &[plain(&["x"; 3])]).unwrap();
    let outcomes = Outcomes::default();
    let mut seq = 0;
    let mut claim = |store: &mut Store| {
        seq += 1;
        let call = WorkCall {
            seq,
            want: 9,
            interval: 50,
            lease: LEASE,
            ..idle(&outcomes)
        };
        let reply = store.work(&call).unwrap();
        (reply.events.len(), reply.wait)
    };
    assert_eq!(claim(&mut store), (1, Some(50)));
    store.now += 49;
    assert_eq!(claim(&mut store), (0, Some(1)));
    store.now += 1;
    assert_eq!(claim(&mut store), (1, Some(50)));
    store.now += 51;
    assert_eq!(
        claim(&mut store),
        (1, Some(LEASE - 101)),
        "the first lease ends"
    );
}

#[test]
fn a_clock_that_goes_back_holds_up_no_start_for_longer_than_the_rate_says() {
    let Some(server) = for_test(&[]) else { return };
    let (mut store, fence) = claimed(&server, "t", &["x", "y", "z"]);
    let outcomes = Outcomes::default();
    let paced = |seq| WorkCall {
        seq,
        want: 9,
        interval: 50,
        lease: LEASE,
        ..idle(&outcomes)
    };
    store.now += LEASE;
    let reply = store.work(&paced(10)).unwrap();
    assert_eq!((reply.events.len(), reply.grace), (1, LEASE));
    for event in [2, 3] {
        let due = When::At(START - 4_000_000_000);
        store.reschedule(event, due);
    }
    store.now = START - 3_600_000_000;
    assert_eq!(store.work(&paced(11)).unwrap().events.len(), 0);
    store.now += 50;
    let reply = store.work(&paced(12)).unwrap();
    assert_eq!((reply.events.len(), reply.events[0].id), (1, 3));
    assert!(reply.fence > fence);
}
