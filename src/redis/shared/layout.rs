//! Where the keys of a watch are stored.
//!
//! A watch has a fixed number of shards. Shard 3 of the watch `devices` has four keys with the hash tag
//! `{lv:devices#3}`, so that a node of a cluster holds them together. The name of a topic has no `#`, so no topic of a
//! dispatcher has the same keys.

/// The settings of a watch, which all its processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The number of shards.
    pub(crate) shards: usize,
    /// The timeout of keys without one of their own, us.
    pub(crate) timeout: u64,
    /// How long a shard is out of reach before its deadlines are moved, us.
    pub(crate) outage: u64,
}

/// The names of the keys of a watch in Redis.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Those of each shard: settings and counters, deadlines, own timeouts, reports.
    shards: Vec<[String; 4]>,
}

impl Layout {
    /// Returns the names for the watch `name` with that many shards.
    pub(crate) fn new(name: &str, shards: usize) -> Self {
        let names =
            |shard| ["c", "b", "o", "x"].map(|part| format!("{{lv:{name}#{shard}}}:{part}"));
        Layout {
            shards: (0..shards).map(names).collect(),
        }
    }

    /// Returns the number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the keys of a shard.
    pub(crate) fn keys(&self, shard: usize) -> &[String; 4] {
        &self.shards[shard]
    }

    /// Returns the shard of `key`: its 32-bit FNV-1a hash, modulo the number of shards. All versions and languages must
    /// agree on it.
    pub(crate) fn shard_of(&self, key: &[u8]) -> usize {
        fnv1a(key) as usize % self.shards.len()
    }
}

/// The 32-bit FNV-1a hash (Fowler, Noll, Vo; draft-eastlake-fnv).
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // Test vectors of the draft.
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn numbered_names_are_spread_evenly() {
        for shards in [3, 16, 100, 1_024] {
            let layout = Layout::new("test", shards);
            let mut counts = vec![0u32; shards];
            let per_shard = 200;
            for number in 0..shards * per_shard {
                counts[layout.shard_of(format!("device-{number}").as_bytes())] += 1;
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*least > 100 && *most < 300, "{shards}: {least} to {most}");
        }
    }

    #[test]
    fn the_keys_of_a_shard_have_one_hash_tag() {
        let layout = Layout::new("eu:devices", 2);
        assert_eq!(
            layout.keys(1),
            &[
                "{lv:eu:devices#1}:c",
                "{lv:eu:devices#1}:b",
                "{lv:eu:devices#1}:o",
                "{lv:eu:devices#1}:x"
            ]
        );
    }
}
