//! The list of the nodes that may receive traffic: immutable snapshots with pickers, and the working copy that they are
//! published from.
//!
//! A list is an array of two levels. Its chunks are shared between the working copy and all snapshots, and copied
//! before they change. Each snapshot has its own spine, with one [`Part`] per chunk. A change therefore copies one or
//! two chunks, and publishing copies the spine: for ten thousand nodes about 160 counters instead of ten thousand. All
//! chunks except the last are full. An inserted node is appended, and the last node moves into the gap of a removed
//! one.

mod rendezvous;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::Hash;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rendezvous::Contest;

/// The number of nodes in a chunk. About the square root of the expected maximum number of nodes, or a little less,
/// because the counter of a node is further away in memory than that of a chunk.
const CHUNK: usize = 64;

/// The number of parts of a weight, which is the number of steps of a slow start.
pub(super) const SHARES: u8 = 16;

/// A node as pickers return it: its id, its data and its present weight. Cloning a node costs one atomic addition, and
/// the clone keeps id and data alive.
pub struct Node<N, D> {
    /// The id and the data.
    body: Arc<(N, D)>,
    /// The [`rendezvous::hash`] of the id.
    hash: u64,
    /// The weight relative to other nodes, once the slow start is over.
    weight: u32,
    /// The part of the weight that applies now, in units of 1/[`SHARES`].
    share: u8,
}

impl<N, D> Node<N, D> {
    /// Creates a node with this weight, for lists in tests. A registry creates its own nodes.
    ///
    /// ```
    /// use liveness::registry::Node;
    ///
    /// let node = Node::new("web-1", 80, 100);
    /// assert_eq!((*node.id(), *node.data(), node.weight()), ("web-1", 80, 100));
    /// ```
    pub fn new(id: N, data: D, weight: u32) -> Self
    where
        N: Hash,
    {
        Node {
            hash: rendezvous::hash(&id),
            body: Arc::new((id, data)),
            weight,
            share: SHARES,
        }
    }

    /// Returns the node with another share of its weight, from 1 to [`SHARES`].
    pub(super) fn with_share(self, share: u8) -> Self {
        Node { share, ..self }
    }

    /// Returns the share of its weight that applies now.
    pub(super) fn share(&self) -> u8 {
        self.share
    }

    /// Returns the weight once the slow start is over.
    pub(super) fn full_weight(&self) -> u32 {
        self.weight
    }

    /// Returns the weight that pickers use: the present weight in units of 1/[`SHARES`], so that a small weight grows
    /// in as many steps as a large one.
    fn points(&self) -> u64 {
        u64::from(self.weight) * u64::from(self.share)
    }

    /// Returns the node's id.
    #[must_use]
    pub fn id(&self) -> &N {
        &self.body.0
    }

    /// Returns the data of the node, such as an address or a connection pool.
    #[must_use]
    pub fn data(&self) -> &D {
        &self.body.1
    }

    /// Returns the present weight of the node: its part of the traffic, relative to the weights of the others. With a
    /// weight of zero it gets no traffic from weighted pickers. During a [slow start](super::Builder::slow_start) the
    /// returned value is rounded up; pickers use the exact one.
    #[must_use]
    pub fn weight(&self) -> u32 {
        // At most `weight`, because `share` is at most `SHARES`.
        self.points().div_ceil(u64::from(SHARES)) as u32
    }
}

/// Serializes the id, the data and the weight.
#[cfg(feature = "serde")]
impl<N: serde::Serialize, D: serde::Serialize> serde::Serialize for Node<N, D> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut node = serializer.serialize_struct("Node", 3)?;
        node.serialize_field("id", self.id())?;
        node.serialize_field("data", self.data())?;
        node.serialize_field("weight", &self.weight())?;
        node.end()
    }
}

impl<N, D> Clone for Node<N, D> {
    fn clone(&self) -> Self {
        Node {
            body: self.body.clone(),
            ..*self
        }
    }
}

impl<N: fmt::Debug, D: fmt::Debug> fmt::Debug for Node<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", self.id())
            .field("data", self.data())
            .field("weight", &self.weight())
            .finish_non_exhaustive()
    }
}

/// A node in its chunk.
struct Entry<N, D> {
    /// The node.
    node: Node<N, D>,
    /// The sum of the points in the chunk up to and including this node.
    end: u64,
}

impl<N, D> Entry<N, D> {
    /// Returns the node.
    fn node(&self) -> Node<N, D> {
        self.node.clone()
    }
}

/// A chunk and the values by which a picker selects it.
struct Part<N, D> {
    /// From one to [`CHUNK`] nodes.
    chunk: Arc<[Entry<N, D>]>,
    /// The sum of the points in the list up to and including this chunk.
    end: u64,
    /// The largest number of points of a node in the chunk.
    heaviest: u64,
}

impl<N, D> Clone for Part<N, D> {
    fn clone(&self) -> Self {
        Part {
            chunk: self.chunk.clone(),
            ..*self
        }
    }
}

/// The position of the round-robin picker, as a fraction of a turn in units of 2^-64. It has cache lines of its own,
/// because every such pick writes to it.
#[derive(Debug)]
#[repr(align(128))]
struct Cursor(AtomicU64);

/// An immutable snapshot of the nodes that may receive traffic, with pickers. It can be shared by reference or in an
/// `Arc`.
///
/// | picker | uses weights | cost | picks per second | suited for |
/// |---|---|---|---|---|
/// | [`round_robin`](Available::round_robin) | no | one atomic addition, shared by threads | 107 M | equal nodes and requests |
/// | [`random`](Available::random) | no | one random number | 107 M | the same, from many threads |
/// | [`weighted`](Available::weighted) | yes | one random number, two binary searches | 22 M | unequal nodes |
/// | [`least_of_two`](Available::least_of_two) | yes | twice that, two calls of your function | 8 M | unequal requests |
/// | [`rendezvous`](Available::rendezvous) | yes | a visit to every node | 54 k | caches, sessions |
///
/// The figures were measured with `benches/registry.rs`: one thread, ten thousand nodes, a list that changes a thousand
/// times a second, a virtual machine with two cores. Each pick loads the current list. With a thousand nodes
/// `rendezvous` makes 410 k picks per second, with ten nodes 4 M.
///
/// Weights are relative: a node of weight 2 is picked twice as often as a node of weight 1. A node of weight zero stays
/// in the list, and weighted pickers never pick it. A slow start changes weights, so it has no effect on the pickers
/// that ignore them. To hide a node from every picker, [drain](super::Registry::drain) it.
///
/// All pickers return `None` if there is no node to pick. Random numbers come from the generator that `fastrand` keeps
/// for each thread; after `fastrand::seed(7)` a test picks the same nodes each time.
///
/// ```
/// use liveness::registry::{Available, Node};
///
/// let nodes = [("a", 1), ("b", 2), ("c", 0)];
/// let list: Available<&str, ()> = nodes
///     .into_iter()
///     .map(|(id, weight)| Node::new(id, (), weight))
///     .collect();
/// let mut turn = [(); 3].map(|()| *list.round_robin().expect("the list has nodes").id());
/// turn.sort_unstable();
/// assert_eq!(turn, ["a", "b", "c"]);
/// let drawn = list.weighted().expect("two nodes have weight");
/// assert_ne!(*drawn.id(), "c");
/// ```
pub struct Available<N, D> {
    /// The chunks in order.
    parts: Vec<Part<N, D>>,
    /// The number of nodes.
    len: usize,
    /// The fraction of a turn by which round robin advances with each pick, rounded up, in units of 2^-64. Zero for one
    /// node, which is a whole turn.
    step: u64,
    /// The position of round robin, shared by all versions.
    cursor: Arc<Cursor>,
    /// The version of the fleet at the last change.
    version: u64,
}

impl<N, D> Available<N, D> {
    /// Returns the version of the fleet at the last change of the list. Of two snapshots of one registry, the one with
    /// the greater version is newer.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the number of nodes, including those of weight zero.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns `true` if there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns an iterator over all nodes, in no particular order.
    ///
    /// ```
    /// use liveness::registry::{Available, Node};
    ///
    /// let nodes = ["a", "b"].map(|id| Node::new(id, (), 1));
    /// let list: Available<&str, ()> = nodes.into_iter().collect();
    /// let mut ids: Vec<&str> = list.iter().map(|node| *node.id()).collect();
    /// ids.sort_unstable();
    /// assert_eq!(ids, ["a", "b"]);
    /// ```
    #[must_use]
    pub fn iter(&self) -> Nodes<'_, N, D> {
        Nodes {
            list: self,
            place: 0,
        }
    }

    /// Returns the node at a position from zero up to but not including [`len`](Available::len), in the order of
    /// [`iter`](Available::iter), for custom pickers. Costs two memory accesses at every position.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&Node<N, D>> {
        let part = self.parts.get(Place(place).chunk())?;
        Some(&part.chunk.get(Place(place).within())?.node)
    }

    /// Picks the nodes in turn and ignores their weights.
    ///
    /// All threads and all versions of a registry's list share one rotation. A change of the list does not restart it;
    /// it continues at the same fraction of the turn. While the list does not change, each turn visits each node once.
    /// (With ten thousand nodes, about one turn in 10^11 is an exception, because positions are rounded to 2^-64 of a
    /// turn.) The rotation starts at a random node, so that several processes that start together do not all begin with
    /// the same node.
    ///
    /// Costs one atomic addition. Threads that pick at the same time contend for it: two threads on two cores together
    /// made less than half of the picks of one thread. [`random`](Available::random) has no such limit.
    #[must_use]
    pub fn round_robin(&self) -> Option<&Node<N, D>> {
        self.at(self.cursor.0.fetch_add(self.step, Ordering::Relaxed))
    }

    /// Picks a node at random, with equal probabilities, and ignores weights. Costs one random number.
    #[must_use]
    pub fn random(&self) -> Option<&Node<N, D>> {
        self.at(fastrand::u64(..))
    }

    /// Picks a node at random with a probability proportional to its weight, or returns `None` if all weights are zero.
    /// Costs one random number and two binary searches.
    #[must_use]
    pub fn weighted(&self) -> Option<&Node<N, D>> {
        Some(self.drawn(fastrand::u64(..))?.0)
    }

    /// Draws two nodes at random by their weights and picks the one with the smaller `load`, or the first one if both
    /// are equal. If only one node has weight, that node is picked. Returns `None` if all weights are zero.
    ///
    /// Two draws are enough to keep the greatest load close to the mean. Unlike the least loaded node, the drawn nodes
    /// differ between callers that pick at the same moment (Mitzenmacher, "The power of two choices in randomized load
    /// balancing", IEEE Transactions on Parallel and Distributed Systems 12(10), 2001). The load is a number that your
    /// program maintains, such as the number of pending requests in the node's data. A load that cannot be compared,
    /// such as `NaN`, counts as not smaller.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use liveness::registry::{Available, Node};
    ///
    /// let loads = [("idle", 3), ("busy", 40)];
    /// let list: Available<&str, AtomicU32> = loads
    ///     .into_iter()
    ///     .map(|(id, load)| Node::new(id, AtomicU32::new(load), 1))
    ///     .collect();
    /// let picked = list.least_of_two(|node| node.data().load(Ordering::Relaxed));
    /// assert_eq!(picked.map(|node| *node.id()), Some("idle"));
    /// ```
    #[must_use]
    pub fn least_of_two<L: PartialOrd>(
        &self,
        mut load: impl FnMut(&Node<N, D>) -> L,
    ) -> Option<&Node<N, D>> {
        let [first, second] = self.two_drawn(fastrand::u64(..), fastrand::u64(..))?;
        let is_second = load(second) < load(first);
        Some(if is_second { second } else { first })
    }

    /// Picks the node to which `key` belongs, or returns `None` if all weights are zero.
    ///
    /// The result is the same for every caller, in every process and on every machine that lists the same nodes with
    /// the same weights, in any order. Each node owns a share of the keys proportional to its weight. When a node
    /// leaves, each of its keys moves to the node that was second for it, and no other key moves. When a node is added
    /// or gains weight, keys move to that node only. The algorithm is rendezvous hashing, also known as highest random
    /// weight (Thaler and Ravishankar 1998), with weights by the logarithmic method (Schindelhauer and Schomaker 2005).
    ///
    /// Costs 2 to 4 ns per node in the list. If that is too much, hash your keys to a few thousand slots, pick a node
    /// for each slot, and reuse the results until the [version](Available::version) changes.
    ///
    /// Ids and keys are hashed by FNV-1a with its published offset basis, so a client that chooses its keys can choose
    /// keys that all belong to one node. Processes agree as far as the `Hash` implementations of the types do. Those of
    /// strings and numbers are the same everywhere. Others may depend on the version of Rust, as that of `std::net`
    /// addresses did. Slices of numbers wider than a byte are hashed in the byte order of the machine.
    ///
    /// ```
    /// use liveness::registry::{Available, Node};
    ///
    /// let list = |ids: &[&'static str]| -> Available<&str, ()> {
    ///     ids.iter().map(|id| Node::new(*id, (), 1)).collect()
    /// };
    /// let (all, fewer) = (list(&["a", "b", "c"]), list(&["c", "a"]));
    /// for user in 0..100 {
    /// let before = *all.rendezvous(&user).expect("the list has nodes").id();
    /// let after = *fewer.rendezvous(&user).expect("the list has nodes").id();
    ///     assert!(after == before || before == "b");
    /// }
    /// ```
    #[must_use]
    pub fn rendezvous(&self, key: &(impl Hash + ?Sized)) -> Option<&Node<N, D>> {
        let mut contest = Contest::new(rendezvous::hash(key));
        let mut owner = None;
        for part in self.parts.iter().filter(|part| part.heaviest > 0) {
            let mut bound = contest.bound(part.heaviest);
            for Entry { node, .. } in &*part.chunk {
                let draw = contest.draw(node.hash);
                if draw <= bound && contest.enter(node.hash, node.points(), draw) {
                    owner = Some(node);
                    bound = contest.bound(part.heaviest);
                }
            }
        }
        owner
    }

    /// Returns the node at a fraction of the list, in units of 2^-64.
    fn at(&self, fraction: u64) -> Option<&Node<N, D>> {
        self.get(scaled(fraction, self.len as u64) as usize)
    }

    /// Returns the sum of all points.
    fn points(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.end)
    }

    /// Returns the node at a fraction of the points, in units of 2^-64, and the sum of the points before it.
    fn drawn(&self, fraction: u64) -> Option<(&Node<N, D>, u64)> {
        self.covering(scaled(fraction, self.points()))
    }

    /// Returns the nodes at two fractions of the points. The second is drawn from the points without those of the first
    /// node, so it is another node. If no points remain, it is the first node again.
    fn two_drawn(&self, first: u64, second: u64) -> Option<[&Node<N, D>; 2]> {
        let (first, start) = self.drawn(first)?;
        let points = first.points();
        let point = scaled(second, self.points() - points);
        let point = point + if point < start { 0 } else { points };
        let second = self.covering(point).map_or(first, |(second, _)| second);
        Some([first, second])
    }

    /// Returns the node that covers a position in all points laid end to end, and the sum of the points before the
    /// node, or `None` beyond the end. A node of weight zero covers nothing.
    fn covering(&self, point: u64) -> Option<(&Node<N, D>, u64)> {
        let nth = self.parts.partition_point(|part| part.end <= point);
        let chunk = &self.parts.get(nth)?.chunk;
        let before = nth.checked_sub(1).map_or(0, |last| self.parts[last].end);
        let nth = chunk.partition_point(|entry| entry.end <= point - before);
        let Entry { node, end } = chunk.get(nth)?;
        Some((node, before + end - node.points()))
    }
}

/// Returns `fraction`, in units of 2^-64, of `whole`. The result is less than `whole` unless that is zero. For a random
/// fraction, the probabilities of all results are equal within a relative error of `whole` / 2^64 (Lemire, "Fast random
/// integer generation in an interval", 2019, without its rejection step).
fn scaled(fraction: u64, whole: u64) -> u64 {
    ((u128::from(fraction) * u128::from(whole)) >> u64::BITS) as u64
}

/// An iterator over the nodes of a list, created by [`Available::iter`].
pub struct Nodes<'a, N, D> {
    /// The list.
    list: &'a Available<N, D>,
    /// The position of the next node.
    place: usize,
}

impl<'a, N, D> Iterator for Nodes<'a, N, D> {
    type Item = &'a Node<N, D>;

    fn next(&mut self) -> Option<&'a Node<N, D>> {
        let node = self.list.get(self.place)?;
        self.place += 1;
        Some(node)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.list.len - self.place;
        (left, Some(left))
    }
}

impl<N, D> ExactSizeIterator for Nodes<'_, N, D> {}

impl<N, D> FusedIterator for Nodes<'_, N, D> {}

impl<N, D> Clone for Nodes<'_, N, D> {
    fn clone(&self) -> Self {
        Nodes { ..*self }
    }
}

impl<N, D> fmt::Debug for Nodes<'_, N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl<'a, N, D> IntoIterator for &'a Available<N, D> {
    type Item = &'a Node<N, D>;
    type IntoIter = Nodes<'a, N, D>;

    fn into_iter(self) -> Nodes<'a, N, D> {
        self.iter()
    }
}

/// Creates a list of version zero that belongs to no registry.
impl<N, D> FromIterator<Node<N, D>> for Available<N, D> {
    fn from_iter<I: IntoIterator<Item = Node<N, D>>>(nodes: I) -> Self {
        let mut listed = Listed::new();
        for node in nodes {
            listed.insert(node);
        }
        listed.publish(0)
    }
}

impl<N, D> fmt::Debug for Available<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Available")
            .field("version", &self.version)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The position of a node in a list. After the node is removed, another node may have this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Place {
    /// Returns the number of nodes before it.
    pub(super) fn index(self) -> usize {
        self.0
    }

    /// Returns the number of its chunk.
    fn chunk(self) -> usize {
        self.0 / CHUNK
    }

    /// Returns its position in its chunk.
    fn within(self) -> usize {
        self.0 % CHUNK
    }
}

/// The working copy of the list, from which snapshots are published. A change costs one or two chunks and the sums in
/// the spine.
pub(super) struct Listed<N, D> {
    /// The chunks in order, with up-to-date sums.
    parts: Vec<Part<N, D>>,
    /// The number of nodes.
    len: usize,
    /// The position of round robin, shared by all versions.
    cursor: Arc<Cursor>,
}

impl<N, D> Listed<N, D> {
    /// Creates an empty list.
    pub(super) fn new() -> Self {
        Listed {
            parts: Vec::new(),
            len: 0,
            cursor: Arc::new(Cursor(AtomicU64::new(fastrand::u64(..)))),
        }
    }

    /// Appends a node and returns its place, which is valid until the node is removed or [moved](Listed::remove) by a
    /// removal.
    pub(super) fn insert(&mut self, node: Node<N, D>) -> Place {
        let place = Place(self.len);
        let before = self.chunk(place.chunk()).iter().map(Entry::node);
        self.set_chunk(place.chunk(), chunk(before.chain(Some(node))));
        self.len += 1;
        place
    }

    /// Removes the node at a place. The last node moves into the gap and is returned, unless the gap is at the end.
    pub(super) fn remove(&mut self, place: Place) -> Option<&Node<N, D>> {
        let last = Place(self.len - 1);
        let (moved, rest) = self.chunk(last.chunk()).split_last()?;
        let (moved, rest) = (moved.node(), chunk(rest.iter().map(Entry::node)));
        self.set_chunk(last.chunk(), rest);
        self.len -= 1;
        if place == last {
            return None;
        }
        self.replace(place, moved);
        Some(&self.chunk(place.chunk())[place.within()].node)
    }

    /// Replaces the node at a place by another one, or by itself with other data or another weight.
    pub(super) fn replace(&mut self, place: Place, node: Node<N, D>) {
        let (before, rest) = self.chunk(place.chunk()).split_at(place.within());
        let before = before.iter().map(Entry::node).chain(Some(node));
        let nodes = before.chain(rest.iter().skip(1).map(Entry::node));
        self.set_chunk(place.chunk(), chunk(nodes));
    }

    /// Returns a snapshot of the list. Costs a copy of the spine, which is a counter for each chunk.
    pub(super) fn publish(&self, version: u64) -> Available<N, D> {
        let len = self.len as u64;
        Available {
            parts: self.parts.clone(),
            len: self.len,
            step: (u64::MAX / len.max(1)).wrapping_add(1),
            cursor: self.cursor.clone(),
            version,
        }
    }

    /// Returns the entries of a chunk, or none if the chunk does not exist yet.
    fn chunk(&self, nth: usize) -> &[Entry<N, D>] {
        self.parts.get(nth).map_or(&[], |part| &part.chunk)
    }

    /// Replaces a chunk or appends it after the last one. Removes an empty chunk, which only the last one can be.
    fn set_chunk(&mut self, nth: usize, chunk: Arc<[Entry<N, D>]>) {
        let Some(last) = chunk.last() else {
            self.parts.truncate(nth);
            return;
        };
        let start = nth.checked_sub(1).map_or(0, |last| self.parts[last].end);
        let part = Part {
            end: start + last.end,
            heaviest: chunk
                .iter()
                .map(|entry| entry.node.points())
                .max()
                .unwrap_or(0),
            chunk,
        };
        if nth == self.parts.len() {
            self.parts.push(part);
            return;
        }
        let end = part.end;
        let old = std::mem::replace(&mut self.parts[nth], part);
        for later in &mut self.parts[nth + 1..] {
            later.end = later.end - old.end + end;
        }
    }
}

/// Creates a chunk of these nodes. Each change builds a new chunk, since a chunk that a snapshot shares must be copied
/// anyway.
fn chunk<N, D>(nodes: impl Iterator<Item = Node<N, D>>) -> Arc<[Entry<N, D>]> {
    let mut end = 0;
    nodes
        .map(|node| {
            end += node.points();
            Entry { node, end }
        })
        .collect()
}
