//! The list of nodes that may receive traffic: immutable snapshots and pickers on them, and the working copy behind.
//!
//! A list is an array of two levels. Its chunks are shared between the working copy and all snapshots, and copied before
//! they change; each snapshot has a spine of its own, one [`Part`] a chunk. So a change copies one chunk or two, and
//! publishing copies the spine: at ten thousand nodes some three hundred counters, not ten thousand. All chunks but the
//! last are full: what is inserted is appended, and into the gap of what is removed moves the last node.

mod rendezvous;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::Hash;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rendezvous::Contest;

/// The nodes of a chunk: about the square root of how many nodes are expected at most, and a little less, because the
/// counter of a node is further away than that of a chunk.
const CHUNK: usize = 64;

/// The parts of a weight: as many as there are steps of a slow start.
pub(super) const SHARES: u8 = 16;

/// A node as pickers see it: its id, its data, and its weight at the moment. It is a handle: cloning it costs one atomic
/// addition, and keeps id and data alive.
pub struct Node<N, D> {
    /// Id and data.
    body: Arc<(N, D)>,
    /// The [`rendezvous::hash`] of the id.
    hash: u64,
    /// How much of the traffic it is to get, beside the others' weights, once its slow start is over.
    weight: u32,
    /// How much of that it gets now, in parts of [`SHARES`].
    share: u8,
}

impl<N, D> Node<N, D> {
    /// Creates a node of this weight, for lists in tests; a registry makes its own.
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

    /// The same with another share of its weight, from 1 to [`SHARES`].
    pub(super) fn with_share(self, share: u8) -> Self {
        Node { share, ..self }
    }

    /// How much of its weight it gets now.
    pub(super) fn share(&self) -> u8 {
        self.share
    }

    /// Its weight once its slow start is over.
    pub(super) fn full_weight(&self) -> u32 {
        self.weight
    }

    /// What pickers go by: its present weight in parts of [`SHARES`], so that a small weight grows in as many steps as a
    /// large one.
    fn points(&self) -> u64 {
        u64::from(self.weight) * u64::from(self.share)
    }

    /// Returns the node's id.
    #[must_use]
    pub fn id(&self) -> &N {
        &self.body.0
    }

    /// Returns what the caller keeps with the node, such as an address or a pool of connections.
    #[must_use]
    pub fn data(&self) -> &D {
        &self.body.1
    }

    /// Returns how much of the traffic the node is to get, relative to the weights of the others; zero means none. During a
    /// [slow start](super::Builder::slow_start) this is rounded up; pickers go by the exact part.
    #[must_use]
    pub fn weight(&self) -> u32 {
        // No more than `weight`, since `share` is no more than `SHARES`.
        self.points().div_ceil(u64::from(SHARES)) as u32
    }
}

/// As its id, data and weight.
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
    /// The sum of the points in the chunk up to this node's, its own among them.
    end: u64,
}

impl<N, D> Entry<N, D> {
    /// The node.
    fn node(&self) -> Node<N, D> {
        self.node.clone()
    }
}

/// A chunk, and what a picker must know before it goes there.
struct Part<N, D> {
    /// From one to [`CHUNK`] nodes.
    chunk: Arc<[Entry<N, D>]>,
    /// The sum of the points in the list up to this chunk's, its own among them.
    end: u64,
    /// The most points of a node in the chunk.
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

/// How far round the list round robin is, as a fraction of a turn in units of 2^-64. On cache lines of its own, because
/// every such pick writes to it.
#[derive(Debug)]
#[repr(align(128))]
struct Cursor(AtomicU64);

/// The nodes that may receive traffic, as they were at one version: a snapshot, which never changes, and pickers on it.
/// Share it by reference or in an `Arc`.
///
/// | picker | heeds weights | costs | picks a second | good for |
/// |---|---|---|---|---|
/// | [`round_robin`](Available::round_robin) | no | one atomic addition, shared by all threads | 107 M | like nodes, like requests |
/// | [`random`](Available::random) | no | a random number | 107 M | the same, from many threads |
/// | [`weighted`](Available::weighted) | yes | a random number, two binary searches | 22 M | unlike nodes |
/// | [`least_of_two`](Available::least_of_two) | yes | twice that, and two calls of yours | 8 M | unlike requests |
/// | [`rendezvous`](Available::rendezvous) | yes | a look at every node | 54 k | caches, sessions |
///
/// The figures are those of `benches/registry.rs` for one thread, ten thousand nodes and a list that changes a thousand
/// times a second, on a virtual machine of two cores; each pick takes the list anew. Of a thousand nodes `rendezvous` makes
/// 410 k, of ten 4 M.
///
/// A weight counts beside the other weights: a node of weight 2 gets twice what one of weight 1 does. A node of weight
/// zero stays in the list, and is never picked by those that heed weights. A slow start is made of weights, so the others
/// are not affected by it; a node that is to get nothing from any picker must be drained.
///
/// All of them return `None` if there is no node to pick. Those that draw do so from the generator that `fastrand` keeps for
/// each thread: after `fastrand::seed(7)` a test comes out the same each time.
///
/// ```
/// use liveness::registry::{Available, Node};
///
/// let nodes = [("a", 1), ("b", 2), ("c", 0)];
/// let list: Available<&str, ()> = nodes
///     .into_iter()
///     .map(|(id, weight)| Node::new(id, (), weight))
///     .collect();
/// let mut turn = [(); 3].map(|()| *list.round_robin().expect("there are three").id());
/// turn.sort_unstable();
/// assert_eq!(turn, ["a", "b", "c"]);
/// let drawn = list.weighted().expect("two have weight");
/// assert_ne!(*drawn.id(), "c");
/// ```
pub struct Available<N, D> {
    /// The chunks in order.
    parts: Vec<Part<N, D>>,
    /// How many nodes there are.
    len: usize,
    /// A turn over the nodes, rounded up: how far round robin goes with each pick, in units of 2^-64. Zero for one node,
    /// which is a whole turn.
    step: u64,
    /// Where round robin is, over all versions.
    cursor: Arc<Cursor>,
    /// The number of the last change.
    version: u64,
}

impl<N, D> Available<N, D> {
    /// Returns the version of the fleet at the last change of the list. Of two snapshots of one registry the one with the greater version is
    /// the newer.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the number of nodes, including those of weight zero.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns an iterator over all nodes, in an order that means nothing. The same as `for node in &list`.
    #[must_use]
    pub fn iter(&self) -> Nodes<'_, N, D> {
        Nodes {
            list: self,
            place: 0,
        }
    }

    /// Returns the node at a place from zero to [`len`](Available::len), in the order of [`iter`](Available::iter), for pickers of
    /// your own. Costs two memory accesses, wherever it is.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&Node<N, D>> {
        let part = self.parts.get(Place(place).chunk())?;
        Some(&part.chunk.get(Place(place).within())?.node)
    }

    /// Picks the nodes in turn, whatever their weights.
    ///
    /// All threads and all versions of one registry's list share the rotation, so that a change of the list does not start
    /// it anew: it goes on at the same fraction of the turn. As long as the list stays as it is, each turn visits each node
    /// once (at ten thousand nodes, but for one turn in 10^11, because a turn is counted in units of 2^-64). It begins at a
    /// random place, so that balancers that are started together do not all begin with the same node.
    ///
    /// Costs one atomic addition. Threads that pick at the same time contend for it: two on two cores together made less than
    /// half of the picks of one alone. [`random`](Available::random) has no such limit.
    #[must_use]
    pub fn round_robin(&self) -> Option<&Node<N, D>> {
        self.at(self.cursor.0.fetch_add(self.step, Ordering::Relaxed))
    }

    /// Picks a node at random, all with the same probability, whatever their weights.
    #[must_use]
    pub fn random(&self) -> Option<&Node<N, D>> {
        self.at(fastrand::u64(..))
    }

    /// Picks a node at random, each with a probability in proportion to its weight; `None` also if all weights are zero.
    #[must_use]
    pub fn weighted(&self) -> Option<&Node<N, D>> {
        Some(self.drawn(fastrand::u64(..))?.0)
    }

    /// Draws two nodes at random by their weights, and picks the one with less load, or the one drawn first if they are equal.
    /// If only one has weight, that one is picked; `None` if none has.
    ///
    /// Two are enough to keep the greatest load close to the mean, and unlike the least loaded of all they are not the
    /// same for everybody who looks at the same moment (Mitzenmacher, "The power of two choices in randomized load
    /// balancing", IEEE Transactions on Parallel and Distributed Systems 12(10), 2001). The load is yours to know:
    /// requests that are under way, say, counted in the node's data. What compares to nothing, as `NaN` does, is not less.
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

    /// Picks the node that `key` belongs to: the same for every caller, in every process and on every machine, as long as they
    /// list the same nodes with the same weights, in whatever order these came. Each has a share of the keys in proportion
    /// to its weight; `None` if all weights are zero.
    ///
    /// When a node leaves, its keys go to others, each to the one that was next for it, and no other key moves. When one
    /// comes, or gains weight, keys move to it and nowhere else. This is rendezvous hashing, or highest random weight
    /// (Thaler and Ravishankar 1998), with weights by the logarithmic method (Schindelhauer and Schomaker 2005).
    ///
    /// Costs a look at every node, of 2 to 4 ns. For more nodes or more picks than that allows, hash your keys to some
    /// thousand slots, ask for the slots, and remember the answers for the [version](Available::version).
    ///
    /// Ids and keys are hashed by FNV-1a from its published start, so whoever may choose keys can choose them all for one
    /// node. Processes agree as far as the `Hash` of the types does: that of strings and numbers is the same everywhere;
    /// that of others may depend on the version of Rust they were built with, as that of `std::net` addresses did, and
    /// slices of numbers wider than a byte are read in the order of the machine.
    ///
    /// ```
    /// use liveness::registry::{Available, Node};
    ///
    /// let list = |ids: &[&'static str]| -> Available<&str, ()> {
    ///     ids.iter().map(|id| Node::new(*id, (), 1)).collect()
    /// };
    /// let (all, fewer) = (list(&["a", "b", "c"]), list(&["c", "a"]));
    /// for user in 0..100 {
    ///     let before = *all.rendezvous(&user).expect("there are three").id();
    ///     let after = *fewer.rendezvous(&user).expect("there are two").id();
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

    /// The node at a fraction of the list, in units of 2^-64.
    fn at(&self, fraction: u64) -> Option<&Node<N, D>> {
        self.get(scaled(fraction, self.len as u64) as usize)
    }

    /// The sum of all points.
    fn points(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.end)
    }

    /// The node at a fraction of the points, in units of 2^-64, and the sum of the points before it.
    fn drawn(&self, fraction: u64) -> Option<(&Node<N, D>, u64)> {
        self.covering(scaled(fraction, self.points()))
    }

    /// Two nodes at two fractions of the points: the second of what is left without the first, so that it is another one,
    /// or the first again where nothing is left.
    fn two_drawn(&self, first: u64, second: u64) -> Option<[&Node<N, D>; 2]> {
        let (first, start) = self.drawn(first)?;
        let points = first.points();
        let point = scaled(second, self.points() - points);
        let point = point + if point < start { 0 } else { points };
        let second = self.covering(point).map_or(first, |(second, _)| second);
        Some([first, second])
    }

    /// The node that covers a point of all points laid end to end, and the sum of the points before it; `None` beyond
    /// the end. Those of weight zero cover nothing.
    fn covering(&self, point: u64) -> Option<(&Node<N, D>, u64)> {
        let nth = self.parts.partition_point(|part| part.end <= point);
        let chunk = &self.parts.get(nth)?.chunk;
        let before = nth.checked_sub(1).map_or(0, |last| self.parts[last].end);
        let nth = chunk.partition_point(|entry| entry.end <= point - before);
        let Entry { node, end } = chunk.get(nth)?;
        Some((node, before + end - node.points()))
    }
}

/// `fraction`, in units of 2^-64, of `whole`: below `whole` unless that is zero. For a random fraction, each number is as
/// likely as the other, to `whole` in 2^64 (Lemire, "Fast random integer generation in an interval", 2019, without its
/// rejection).
fn scaled(fraction: u64, whole: u64) -> u64 {
    ((u128::from(fraction) * u128::from(whole)) >> u64::BITS) as u64
}

/// An iterator over the nodes of a list; made by [`Available::iter`].
pub struct Nodes<'a, N, D> {
    /// The list.
    list: &'a Available<N, D>,
    /// The place of the next node.
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

/// A list that belongs to no registry, of version zero.
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

/// Where a node is in a list; another may be there once it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Place {
    /// How many nodes are before it.
    pub(super) fn index(self) -> usize {
        self.0
    }

    /// The number of its chunk.
    fn chunk(self) -> usize {
        self.0 / CHUNK
    }

    /// Where it is in its chunk.
    fn within(self) -> usize {
        self.0 % CHUNK
    }
}

/// The working copy of the list, which changes, and of which snapshots are published. A change costs one chunk or two, and
/// the sums of the spine.
pub(super) struct Listed<N, D> {
    /// The chunks in order, with their sums kept up.
    parts: Vec<Part<N, D>>,
    /// How many nodes there are.
    len: usize,
    /// Where round robin is, over all versions.
    cursor: Arc<Cursor>,
}

impl<N, D> Listed<N, D> {
    /// No nodes.
    pub(super) fn new() -> Self {
        Listed {
            parts: Vec::new(),
            len: 0,
            cursor: Arc::new(Cursor(AtomicU64::new(fastrand::u64(..)))),
        }
    }

    /// Appends a node, and returns its place: its own until it is removed, or [moved](Listed::remove) by a removal.
    pub(super) fn insert(&mut self, node: Node<N, D>) -> Place {
        let place = Place(self.len);
        let before = self.chunk(place.chunk()).iter().map(Entry::node);
        self.set_chunk(place.chunk(), chunk(before.chain(Some(node))));
        self.len += 1;
        place
    }

    /// Removes the node at a place. Into the gap moves the last one, which is returned, unless the gap is at the end.
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

    /// Puts a node into the place of another, or of itself with other data or another weight.
    pub(super) fn replace(&mut self, place: Place, node: Node<N, D>) {
        let (before, rest) = self.chunk(place.chunk()).split_at(place.within());
        let before = before.iter().map(Entry::node).chain(Some(node));
        let nodes = before.chain(rest.iter().skip(1).map(Entry::node));
        self.set_chunk(place.chunk(), chunk(nodes));
    }

    /// A snapshot of the list as it is. Costs the spine: a counter for each chunk.
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

    /// The entries of a chunk; none of one that is still to come.
    fn chunk(&self, nth: usize) -> &[Entry<N, D>] {
        self.parts.get(nth).map_or(&[], |part| &part.chunk)
    }

    /// Puts a chunk into the place of another, or after the last, and takes an empty one away, which only the last may be.
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

/// A chunk of these nodes. Chunks are built anew for each change: after a snapshot they would have to be copied anyway.
fn chunk<N, D>(nodes: impl Iterator<Item = Node<N, D>>) -> Arc<[Entry<N, D>]> {
    let mut end = 0;
    nodes
        .map(|node| {
            end += node.points();
            Entry { node, end }
        })
        .collect()
}
