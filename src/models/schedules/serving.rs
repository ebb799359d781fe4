//! The inbox of a reactor, and strands: a lost wake-up, jobs out of order, and a connection that is never read again.
//! What is not woken is a deadlock, which the explorer reports.

mod connections;
mod delegating;

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::explore;
use crate::server::inbox::{Inbox, Wake};
use crate::server::pool::{Home, Owner, Pool, Turn};
use crate::server::strand::{Room, Strand};

/// A waker that keeps one wake-up, as that of the operating system does.
#[derive(Default)]
struct Bell(Mutex<bool>, Condvar);

impl Bell {
    /// Sleeps until there is a wake-up, and takes it.
    fn sleep(&self) {
        let mut rung = self.0.lock().unwrap();
        while !*rung {
            rung = self.1.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Arc<Bell> {
    fn wake(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }
}

#[test]
fn a_reactor_that_sleeps_misses_no_push() {
    explore("a_reactor_that_sleeps_misses_no_push", || {
        let bell = Arc::new(Bell::default());
        let inbox = Arc::new(Inbox::new(Box::new(bell.clone())));
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                let inbox = inbox.clone();
                thread::spawn(move || {
                    for number in 0..3 {
                        inbox.push((sender, number)).unwrap();
                    }
                })
            })
            .collect();
        let (mut taken, mut seen) = (Vec::new(), Vec::new());
        while seen.len() < 6 {
            if inbox.may_sleep() {
                bell.sleep();
            }
            inbox.take(&mut taken);
            seen.append(&mut taken);
        }
        senders.into_iter().for_each(|it| it.join().unwrap());
        for sender in 0..2 {
            let of_one = seen.iter().filter(|it| it.0 == sender);
            assert!(of_one.map(|it| it.1).eq(0..3), "{seen:?}");
        }
        inbox.push((9, 9)).unwrap();
        assert_eq!(inbox.close(), [(9, 9)]);
        assert!(inbox.push((9, 9)).is_err());
    });
}

/// No home.
#[derive(Clone)]
enum Nowhere {}

impl Home<Arc<Connection>> for Nowhere {
    fn is(&self, _: &Self) -> bool {
        match *self {}
    }

    fn accept(&self, _: Turn<Arc<Connection>>) {
        match *self {}
    }
}

/// A connection whose jobs are numbers.
struct Connection {
    /// The pool.
    pool: Arc<Pool<Arc<Connection>>>,
    /// The jobs.
    strand: Strand<u32, Nowhere>,
    /// The jobs that ran.
    ran: Mutex<Vec<u32>>,
    /// Whether a job runs.
    is_running: AtomicBool,
    /// Whether the reactor reads.
    reads: Mutex<bool>,
    /// Notified when it does.
    resumed: Condvar,
    /// All connections.
    all: Mutex<Vec<Arc<Connection>>>,
}

impl Owner for Arc<Connection> {
    type Job = u32;
    type Home = Nowhere;

    fn strand(&self) -> &Strand<u32, Nowhere> {
        &self.strand
    }

    fn pool(&self) -> Arc<Pool<Self>> {
        self.pool.clone()
    }

    fn belongs(&self, _: &u32, home: &Nowhere) -> bool {
        match *home {}
    }

    fn lost(&self, home: &Nowhere) {
        match *home {}
    }

    fn run(&self, job: u32) {
        assert!(!self.is_running.swap(true, Ordering::SeqCst));
        self.ran.lock().unwrap().push(job);
        self.is_running.store(false, Ordering::SeqCst);
    }

    fn resume(&self) {
        *self.reads.lock().unwrap() = true;
        self.resumed.notify_one();
    }

    fn resume_all(&self) {
        for connection in &*self.all.lock().unwrap() {
            let mut reads = connection.reads.lock().unwrap();
            if self.pool.relent(&connection.strand) {
                *reads = true;
                connection.resumed.notify_one();
            }
        }
    }
}

impl Connection {
    /// Creates a connection that is read.
    fn new(pool: &Arc<Pool<Arc<Connection>>>) -> Arc<Self> {
        Arc::new(Connection {
            pool: pool.clone(),
            strand: Strand::new(),
            ran: Mutex::default(),
            is_running: AtomicBool::new(false),
            reads: Mutex::new(true),
            resumed: Condvar::new(),
            all: Mutex::default(),
        })
    }
}

#[test]
fn a_strand_runs_in_order_on_any_threads_and_is_read_again_after_it_was_full() {
    explore(
        "a_strand_runs_in_order_on_any_threads_and_is_read_again_after_it_was_full",
        || {
            let room = Room {
                jobs: 3,
                bytes: 100,
            };
            let pool = Arc::new(Pool::new(2, room, usize::MAX));
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    let pool = pool.clone();
                    thread::spawn(move || pool.work())
                })
                .collect();
            let connection = Connection::new(&pool);
            for job in 0..7 {
                let mut reads = connection.reads.lock().unwrap();
                while !*reads {
                    reads = connection.resumed.wait(reads).unwrap();
                }
                drop(reads);
                // As in the reactor: a resume that overtakes the pause waits in its inbox until after it.
                let mut reads = connection.reads.lock().unwrap();
                let pushed = pool.push(&connection.strand, job, 1, |_, home| match *home {});
                *reads = !pushed.is_full;
                drop(reads);
                if let Some(place) = pushed.turn {
                    pool.schedule(&mut vec![(connection.clone(), place)]);
                }
            }
            assert_eq!(pool.close(std::time::Duration::MAX), 0);
            workers.into_iter().for_each(|it| it.join().unwrap());
            assert!(connection.ran.lock().unwrap().iter().copied().eq(0..7));
        },
    );
}

/// Red if `remove` does not find that the limit is crossed, and if `hold` does not mark the strand.
#[test]
fn strands_that_were_held_because_of_others_are_read_again() {
    explore(
        "strands_that_were_held_because_of_others_are_read_again",
        || {
            let room = Room {
                jobs: 100,
                bytes: 100,
            };
            let pool = Arc::new(Pool::new(2, room, 1));
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    let pool = pool.clone();
                    thread::spawn(move || pool.work())
                })
                .collect();
            let connections = [Connection::new(&pool), Connection::new(&pool)];
            for connection in &connections {
                *connection.all.lock().unwrap() = connections.to_vec();
            }
            for job in 0..4 {
                for connection in &connections {
                    // As in the reactor: what a resume asks for waits in its inbox until after the hold.
                    let mut reads = connection.reads.lock().unwrap();
                    *reads &= !pool.hold(&connection.strand);
                    while !*reads {
                        reads = connection.resumed.wait(reads).unwrap();
                    }
                    drop(reads);
                    let pushed = pool.push(&connection.strand, job, 1, |_, home| match *home {});
                    assert!(!pushed.is_full);
                    if let Some(place) = pushed.turn {
                        pool.schedule(&mut vec![(connection.clone(), place)]);
                    }
                    assert!(pool.bytes() <= 2, "one read beyond the limit");
                }
            }
            assert_eq!(pool.close(std::time::Duration::MAX), 0);
            workers.into_iter().for_each(|it| it.join().unwrap());
            assert_eq!(pool.bytes(), 0);
            for connection in &connections {
                assert!(connection.ran.lock().unwrap().iter().copied().eq(0..4));
                connection.all.lock().unwrap().clear();
            }
        },
    );
}
