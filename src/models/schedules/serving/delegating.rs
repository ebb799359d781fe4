//! Strands whose jobs are delegated to groups: jobs that are lost, run twice, at once or in another order, an end that
//! is not the last, and a pool that ends while a turn is away.

use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;

use super::explore;
use crate::server::Group;
use crate::server::group::Gate;
use crate::server::pool::{Home, Owner, Pool, Turn};
use crate::server::strand::{Ran, Room, Strand};

/// More jobs than any model has.
const ROOM: Room = Room {
    jobs: 100,
    bytes: 100,
};

/// The job that is the end: it belongs to a home, and then to the pool.
const END: u32 = 9;

/// A group to which jobs are delegated.
#[derive(Clone)]
struct Place {
    /// Its number; the pool has number zero.
    number: usize,
    /// The way in.
    gate: Arc<Gate<usize>>,
}

/// A connection whose jobs are numbers.
struct Connection {
    /// The jobs.
    strand: Strand<u32, Place>,
    /// The jobs that ran, each with the number of the place.
    ran: Mutex<Vec<(usize, u32)>>,
    /// Whether a job runs.
    is_running: AtomicBool,
    /// The place that job 1 delegates to.
    wanted: Mutex<Option<Place>>,
    /// How often a turn was dropped.
    lost: Mutex<usize>,
    /// The pool.
    pool: Arc<Pool<Arc<Connection>>>,
}

impl Connection {
    /// Runs a job in the place with this number.
    fn work(&self, place: usize, job: u32) {
        assert!(!self.is_running.swap(true, Ordering::SeqCst));
        self.ran.lock().unwrap().push((place, job));
        if job == 1
            && let Some(wanted) = self.wanted.lock().unwrap().take()
        {
            self.strand.set_home(Some(wanted));
        }
        self.is_running.store(false, Ordering::SeqCst);
    }
}

impl Owner for Arc<Connection> {
    type Job = u32;
    type Home = Place;

    fn strand(&self) -> &Strand<u32, Place> {
        &self.strand
    }

    fn pool(&self) -> Arc<Pool<Self>> {
        self.pool.clone()
    }

    fn belongs(&self, job: &u32, _: &Place) -> bool {
        // One of the messages has a route only in the server.
        *job != 3
    }

    fn run(&self, job: u32) {
        self.work(0, job);
    }

    fn resume(&self) {}

    fn lost(&self, _: &Place) {
        *self.lost.lock().unwrap() += 1;
    }
}

impl Home<Arc<Connection>> for Place {
    fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }

    fn accept(&self, turn: Turn<Arc<Connection>>) {
        self.gate.admit(turn, |turn, number| {
            turn.run(|connection, job| {
                connection.work(*number, job);
                if job == END {
                    Ran::Settled(job)
                } else {
                    Ran::Done
                }
            });
        });
    }
}

/// A pool with one thread, a connection, and two groups.
struct Setting {
    connection: Arc<Connection>,
    groups: Vec<Group<usize>>,
    worker: thread::JoinHandle<()>,
}

impl Setting {
    fn new() -> Self {
        let pool = Arc::new(Pool::new(1, ROOM, usize::MAX));
        let groups = (1..3).map(|number| Group::builder("g").capacity(1).spawn(number).unwrap());
        let connection = Connection {
            strand: Strand::new(),
            ran: Mutex::default(),
            is_running: AtomicBool::new(false),
            wanted: Mutex::default(),
            lost: Mutex::default(),
            pool: pool.clone(),
        };
        Setting {
            connection: Arc::new(connection),
            groups: groups.collect(),
            worker: thread::spawn(move || pool.work()),
        }
    }

    /// The group with this number.
    fn place(&self, number: usize) -> Place {
        let gate = Arc::new(self.groups[number - 1].gate());
        Place { number, gate }
    }

    /// Pushes jobs, as the reactor does.
    fn push(&self, jobs: impl IntoIterator<Item = u32>) {
        let connection = &self.connection;
        for job in jobs {
            let belongs = |job: &u32, home: &Place| connection.belongs(job, home);
            let pool = &connection.pool;
            let pushed = pool.push(&connection.strand, job, 1, belongs);
            if let Some(place) = pushed.turn {
                let mut turns = vec![(connection.clone(), place)];
                connection.pool.schedule(&mut turns);
            }
        }
    }

    /// Ends the pool and the groups, and returns what ran. Each job ran once and in order; the end ran last in the
    /// pool, and before that at most once in a group.
    fn finish(self) -> (Vec<(usize, u32)>, usize) {
        let Setting {
            connection,
            groups,
            worker,
        } = self;
        assert_eq!(connection.pool.close(Duration::MAX), 0);
        worker.join().unwrap();
        for group in groups {
            let report = group.stop(Duration::MAX);
            assert!(report.still_running.is_empty());
            let stats = group.stats();
            assert!(stats.is_balanced(), "{stats:?}");
        }
        let ran = std::mem::take(&mut *connection.ran.lock().unwrap());
        let (last, before) = ran.split_last().unwrap();
        assert_eq!(*last, (0, END), "{ran:?}");
        let mut messages = before;
        if let Some(((place, END), rest)) = before.split_last() {
            assert_ne!(*place, 0, "{ran:?}");
            messages = rest;
        }
        assert!(messages.iter().map(|it| it.1).eq(0..5), "{ran:?}");
        let lost = *connection.lost.lock().unwrap();
        (ran, lost)
    }
}

#[test]
fn jobs_run_once_and_in_order_while_the_place_changes() {
    explore("jobs_run_once_and_in_order_while_the_place_changes", || {
        let setting = Setting::new();
        let places = [Some(setting.place(1)), Some(setting.place(2)), None];
        let changing = thread::spawn({
            let connection = setting.connection.clone();
            move || {
                for place in places {
                    connection.strand.set_home(place);
                }
            }
        });
        setting.push((0..5).chain([END]));
        let connection = setting.connection.clone();
        let (_, lost) = setting.finish();
        assert_eq!(lost, 0);
        changing.join().unwrap();
        // The group's thread knows of no connection that has ended.
        connection.strand.set_home(None);
    });
}

#[test]
fn a_job_that_delegates_is_the_last_one_outside() {
    explore("a_job_that_delegates_is_the_last_one_outside", || {
        let setting = Setting::new();
        *setting.connection.wanted.lock().unwrap() = Some(setting.place(2));
        setting.push((0..5).chain([END]));
        let (ran, lost) = setting.finish();
        let places = ran.iter().map(|it| it.0);
        assert!(places.eq([0, 0, 2, 0, 2, 2, 0]), "{ran:?}");
        assert_eq!(lost, 0);
    });
}

#[test]
fn the_end_comes_to_one_group() {
    explore("the_end_comes_to_one_group", || {
        let setting = Setting::new();
        setting.connection.strand.set_home(Some(setting.place(1)));
        let places = [2, 1].map(|number| setting.place(number));
        setting.push(0..5);
        let changing = thread::spawn({
            let connection = setting.connection.clone();
            move || {
                for place in places.iter().cycle().take(6) {
                    connection.strand.set_home(Some(place.clone()));
                    thread::yield_now();
                }
            }
        });
        setting.push([END]);
        let (ran, _) = setting.finish();
        changing.join().unwrap();
        assert_eq!(ran.iter().filter(|it| it.1 == END).count(), 2, "{ran:?}");
    });
}

#[test]
fn a_group_that_stops_loses_no_job() {
    explore("a_group_that_stops_loses_no_job", || {
        let setting = Setting::new();
        setting.connection.strand.set_home(Some(setting.place(1)));
        let stopping = thread::spawn({
            let group = setting.groups[0].clone();
            // Cut at once or not at all, by the choice of the explorer's clock.
            move || drop(group.stop(Duration::from_millis(1)))
        });
        setting.push((0..5).chain([END]));
        let (ran, lost) = setting.finish();
        stopping.join().unwrap();
        assert!(lost <= 1, "{ran:?}");
        if lost == 1 {
            // It did not come back to the group.
            let inside = ran.iter().filter(|it| it.1 != 3);
            let mut outside = inside.skip_while(|it| it.0 == 1);
            assert!(outside.all(|it| it.0 == 0), "{ran:?}");
        }
    });
}
