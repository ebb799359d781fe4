//! A sink that emits the events of a watcher to a topic.

use std::fmt;

use super::Dispatcher;
use super::error::EmitErrorKind;
use super::topic::Topic;
use crate::event::Event;
use crate::sink::{Refused, Sink};

/// A [`Sink`] that emits each event of a watcher as an event of a topic, created by [`Dispatcher::sink`].
pub struct TopicSink<K, V = ()> {
    /// The dispatcher.
    dispatcher: Dispatcher,
    /// The topic.
    topic: Topic<Event<K, V>>,
}

impl Dispatcher {
    /// Returns a sink for a watcher, which emits each of its events as an event of `topic`.
    ///
    /// While the dispatcher is full or the topic has no handler, the events wait in the watcher, which offers them
    /// again, so none is lost. After the dispatcher has stopped, the watcher counts further events as lost.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, On, Topic};
    /// use liveness::{Event, ManualClock, Watcher};
    ///
    /// const SILENT: Topic<Event<String>> = Topic::new("silent");
    /// let clock = ManualClock::new();
    /// let dispatcher = Dispatcher::builder().build()?;
    /// let (sender, paged) = std::sync::mpsc::channel();
    /// dispatcher.on(&SILENT, "page", On::new(), move |_, event| {
    ///     sender.send(event.key().cloned())?;
    ///     Ok(())
    /// })?;
    /// let watcher = Watcher::builder().clock(clock.clone()).sink(dispatcher.sink(&SILENT)).build()?;
    /// watcher.beat("db-1".to_owned())?;
    /// clock.advance(Duration::from_secs(60));
    /// watcher.flush()?;
    /// assert_eq!(paged.recv()?, Some("db-1".to_owned()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sink<K, V>(&self, topic: &Topic<Event<K, V>>) -> TopicSink<K, V> {
        TopicSink {
            dispatcher: self.clone(),
            topic: topic.clone(),
        }
    }
}

impl<K, V> Sink<K, V> for TopicSink<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>> {
        match self.dispatcher.emit(&self.topic, event) {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.kind() {
                EmitErrorKind::Full | EmitErrorKind::NoHandler => Refused::Full(error.into_event()),
                _ => Refused::Gone(error.into_event()),
            }),
        }
    }
}

impl<K, V> fmt::Debug for TopicSink<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSink")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
