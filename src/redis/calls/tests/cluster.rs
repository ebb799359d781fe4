//! The scripts on a cluster of three nodes.

use super::*;
use crate::dispatch::Cancelled;
use crate::redis::three_nodes;

#[test]
fn topics_are_on_all_nodes_of_a_cluster_and_each_on_one() {
    let Some(nodes) = three_nodes::nodes() else {
        return;
    };
    for topic in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let link = three_nodes::connect(&nodes);
        let mut store = Store::over(link, topic);
        let unique = |payload: &[u8]| Emission {
            due: When::After(9),
            unique: Some(("key".to_owned(), crate::dispatch::OnDuplicate::Keep)),
            payload: payload.to_vec(),
        };
        let groups = [plain(&["x", "y", "z"]), vec![unique(b"u")]];
        for _ in 0..2 {
            let reply = store.emit_as("s", 1, 99, &groups).unwrap();
            let accepted = [GroupReply::Accepted(1), GroupReply::Accepted(4)];
            assert_eq!(reply.unwrap(), accepted);
        }
        let mut outcomes = Outcomes::default();
        let claim = WorkCall {
            want: 3,
            ..idle(&outcomes)
        };
        let reply = store.work(&claim).unwrap();
        assert_eq!(reply.events.len(), 3);
        let fence = reply.fence;
        let renewed = store.renew(1_000, &[(1, fence), (2, fence)]);
        assert!(renewed.lost.is_empty());
        let cancelled = store.cancel(&[2, 9]);
        assert_eq!(cancelled, [Cancelled::Running, Cancelled::Unknown]);
        outcomes.done = vec![(1, fence), (2, fence)];
        outcomes.dead = vec![(3, fence, b"no".to_vec())];
        let end = WorkCall {
            seq: 2,
            ..idle(&outcomes)
        };
        assert_eq!(store.work(&end).unwrap().stale, [2]);
        assert!(store.reschedule(4, When::Now));
        assert_eq!(
            store.view(false, 0, 9)[0].payload.as_deref(),
            Some(&b"u"[..])
        );
        assert_eq!(store.view(true, 0, 9)[0].id, 3);
        assert_eq!(store.replay(99, &[(3, b"again".to_vec())]), 1);
        assert!(store.pause(true));
        assert_eq!((store.purge(9), store.audit()), (0, 0));
        let account = store.account();
        assert_eq!(
            (account.waiting, account.done, account.is_paused),
            (2, 1, true)
        );
    }
    // Nine keys of each topic, of which two are not there at the end.
    let mut keys = 0;
    for (node, _) in &nodes {
        let size = node.command(&["DBSIZE"]).unwrap();
        let size: usize = size.trim().trim_start_matches(':').parse().unwrap();
        assert!(size > 0, "a node has no topic");
        keys += size;
    }
    assert_eq!(keys, 8 * 8);
}
