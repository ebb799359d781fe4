use std::thread;

use super::*;
use crate::dispatch::local::settings::Settings;
use crate::redis::link::Endpoint;

#[test]
fn a_process_without_handlers_has_nothing_to_audit() {
    let options = Options {
        session: "s".to_owned(),
        threads: 1,
        times: Times {
            lease: Duration::from_secs(30),
            look: Duration::from_secs(5),
        },
        max_dead: 1,
        max_lapses: 1,
    };
    let core = Core::start(Settings::new()).unwrap();
    let inbox = Arc::<Inbox>::default();
    let second = Duration::from_secs(1);
    let endpoint = Endpoint::new("redis+unix:///nowhere/s", second, second).unwrap();
    let ears = Ears::new(&options.session);
    let line = Line::new(endpoint);
    let mut keeper = Keeper::new(options, core.clone(), inbox.clone(), ears, line);
    // As after a minute.
    keeper.audit.0 = 0;
    let keeper = thread::spawn(move || keeper.run());
    thread::sleep(Duration::from_millis(20));
    inbox.order(Order::End {
        undone: Vec::new(),
        waits: false,
    });
    assert!(keeper.join().is_ok(), "it has not panicked");
    drop(core.stop(Duration::ZERO));
}
