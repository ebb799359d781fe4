//! Named processors that a message passes one after the other.

use std::fmt;
use std::sync::Arc;

use super::error::ChainError;
use super::port::{Entrance, Port};
use super::shared::{Patience, Shared};
use super::work::{Kind, Once};
use crate::sync::Mutex;

/// A processor, which passes a message on or consumes it.
type Process<S, M> = Arc<dyn Fn(&mut S, M) -> Option<M> + Send + Sync>;

/// The processors with their names, in order.
type Steps<S, M> = Arc<Vec<Step<S, M>>>;

/// A chain of processors for messages of type `M`, created by [`Group::chain`](super::Group::chain).
///
/// A message that is sent to a [`port`](Chain::port) of the chain is passed to its processors in order, on the group's
/// thread. Each returns a message for the next one, or `None`, which ends the way of the message. Only messages that
/// are sent to the chain pass it; the group's own jobs do not.
///
/// Changes take their turn in the group's inbox like messages: they apply to the messages that the same thread sends
/// afterwards, and never to a message that is on its way through the chain. Clones are handles on the same chain. A
/// chain does not keep the group alive.
///
/// ```
/// use liveness::server::Group;
///
/// let chat = Group::builder("chat").spawn(Vec::new())?;
/// let chain = chat.chain::<String>();
/// chain.append("store", |lines: &mut Vec<String>, text| {
///     lines.push(text);
///     None
/// })?;
/// chain.insert_before("store", "shout", |_, text| Some(text.to_uppercase()))?;
/// let port = chain.port();
/// port.send("hello".to_owned())?;
/// chain.remove("shout")?;
/// port.send("again".to_owned())?;
/// assert_eq!(chat.call(|lines| lines.join(" "))?, "HELLO again");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Chain<S, M> {
    /// The group.
    shared: Arc<Shared<S>>,
    /// The names and the processors.
    list: Arc<List<S, M>>,
}

/// The names and the processors of a chain.
struct List<S, M> {
    /// The names after all changes that were accepted. Locked while a change is posted, so that changes are applied in
    /// the order in which they were checked.
    names: Mutex<Vec<Arc<str>>>,
    /// The processors after all changes that were applied.
    steps: Mutex<Steps<S, M>>,
}

/// A change of a list.
#[derive(Clone, Copy)]
enum Change {
    /// An element is inserted at this place.
    Insert(usize),
    /// The element at this place is removed.
    Remove(usize),
}

impl Change {
    /// Applies it to `list`.
    fn apply<T>(self, list: &mut Vec<T>, element: Option<T>) {
        match (self, element) {
            (Change::Insert(at), Some(element)) => list.insert(at, element),
            (Change::Insert(_), None) => {}
            (Change::Remove(at), _) => drop(list.remove(at)),
        }
    }
}

impl<S: Send + 'static, M: Send + 'static> Chain<S, M> {
    /// A chain without processors.
    pub(super) fn new(shared: Arc<Shared<S>>) -> Self {
        let list = List {
            names: Mutex::new(Vec::new()),
            steps: Mutex::new(Arc::default()),
        };
        Chain {
            shared,
            list: Arc::new(list),
        }
    }

    /// Adds a processor to the end.
    ///
    /// # Errors
    ///
    /// Returns [`ChainError::Duplicate`] if the chain has a processor called `name`, or [`ChainError::Refused`] if the
    /// group is full or stopped. Does not wait.
    pub fn append(
        &self,
        name: &str,
        process: impl Fn(&mut S, M) -> Option<M> + Send + Sync + 'static,
    ) -> Result<(), ChainError> {
        self.insert(name, process, |names| Ok(names.len()))
    }

    /// Inserts a processor before the one called `before`.
    ///
    /// # Errors
    ///
    /// Returns [`ChainError::Unknown`] if the chain has no processor called `before`, and the errors of
    /// [`append`](Chain::append).
    pub fn insert_before(
        &self,
        before: &str,
        name: &str,
        process: impl Fn(&mut S, M) -> Option<M> + Send + Sync + 'static,
    ) -> Result<(), ChainError> {
        self.insert(name, process, |names| find(names, before))
    }

    /// Removes the processor called `name`.
    ///
    /// # Errors
    ///
    /// Returns [`ChainError::Unknown`] if the chain has no processor called `name`, or [`ChainError::Refused`] if the
    /// group is full or stopped. Does not wait.
    pub fn remove(&self, name: &str) -> Result<(), ChainError> {
        self.change(|names| Ok((Change::Remove(find(names, name)?), None)))
    }

    /// Returns the names of the processors in order, including changes that were accepted and are not applied yet.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.list.names.lock();
        names.iter().map(ToString::to_string).collect()
    }

    /// Creates a sender of messages that pass the chain.
    #[must_use]
    pub fn port(&self) -> Port<M> {
        let list = self.list.clone();
        let pass = move |state: &mut S, message: M| {
            // The lock is released before a processor is called.
            let steps = list.steps.lock().clone();
            let mut message = Some(message);
            for (_, process) in steps.iter() {
                let Some(current) = message.take() else {
                    break;
                };
                message = process(state, current);
            }
        };
        Port::new(Entrance::new(self.shared.clone(), Kind::Chain, pass))
    }

    /// Inserts a processor at the place that `place` selects.
    fn insert(
        &self,
        name: &str,
        process: impl Fn(&mut S, M) -> Option<M> + Send + Sync + 'static,
        place: impl FnOnce(&[Arc<str>]) -> Result<usize, ChainError>,
    ) -> Result<(), ChainError> {
        self.change(|names| {
            if find(names, name).is_ok() {
                return Err(ChainError::Duplicate);
            }
            let change = Change::Insert(place(names)?);
            let process: Process<S, M> = Arc::new(process);
            Ok((change, Some((Arc::from(name), process))))
        })
    }

    /// Posts a change to the group.
    fn change(
        &self,
        decide: impl FnOnce(&[Arc<str>]) -> Result<(Change, Option<Step<S, M>>), ChainError>,
    ) -> Result<(), ChainError> {
        let mut names = self.list.names.lock();
        let (change, step) = decide(&names)?;
        let name = step.as_ref().map(|(name, _)| name.clone());
        let list = self.list.clone();
        let apply = Once::new(move |_: &mut S| {
            let mut steps = list.steps.lock().to_vec();
            change.apply(&mut steps, step);
            let old = std::mem::replace(&mut *list.steps.lock(), Arc::new(steps));
            // A processor that was removed is dropped without the lock.
            drop(old);
        });
        match self.shared.push(Kind::Chain, apply, Patience::None) {
            Ok(()) => {
                change.apply(&mut names, name);
                Ok(())
            }
            Err((kind, apply)) => {
                drop(names);
                drop(apply);
                Err(ChainError::Refused(kind))
            }
        }
    }
}

/// A processor with its name.
type Step<S, M> = (Arc<str>, Process<S, M>);

/// The place of `name` in `names`.
fn find(names: &[Arc<str>], name: &str) -> Result<usize, ChainError> {
    let found = names.iter().position(|other| **other == *name);
    found.ok_or(ChainError::Unknown)
}

impl<S, M> Clone for Chain<S, M> {
    fn clone(&self) -> Self {
        Chain {
            shared: self.shared.clone(),
            list: self.list.clone(),
        }
    }
}

impl<S, M> fmt::Debug for Chain<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.list.names.lock();
        f.debug_struct("Chain")
            .field("names", &*names)
            .finish_non_exhaustive()
    }
}
