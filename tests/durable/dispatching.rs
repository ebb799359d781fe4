//! What a durable dispatcher does beyond the suite that all dispatchers pass.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use liveness::dispatch::{Emit, On, Topic};
use liveness::redis::Dispatcher;

use crate::redis_server::for_test;

const MAIL: Topic<String> = Topic::new("mail");

#[test]
fn an_event_of_one_process_is_handled_by_another() {
    let Some(server) = for_test(&[]) else { return };
    let producer = Dispatcher::builder(&server.url())
        .threads(1)
        .build()
        .unwrap();
    let worker = Dispatcher::builder(&server.url()).build().unwrap();
    let (sender, sent) = mpsc::channel();
    worker
        .on(&MAIL, "send", On::new(), move |context, to| {
            sender.send((to.clone(), context.attempt(), context.lateness()))?;
            Ok(())
        })
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    for n in 0..20 {
        let start = Instant::now();
        producer.emit(&MAIL, format!("ada{n}")).unwrap();
        let got = sent.recv_timeout(Duration::from_secs(5)).unwrap();
        println!("{:?} {got:?}", start.elapsed());
    }
    for n in 0..20 {
        let start = Instant::now();
        producer
            .emit_with(
                &MAIL,
                format!("bob{n}"),
                Emit::after(Duration::from_millis(50)),
            )
            .unwrap();
        let got = sent.recv_timeout(Duration::from_secs(5)).unwrap();
        println!("{:?} {got:?}", start.elapsed());
    }
    assert!(worker.flush(Duration::from_secs(5)).unwrap());
    let stats = worker.stats().unwrap();
    println!("{stats}");
    assert!(stats.is_balanced());
    let start = Instant::now();
    let _ = worker.stop(Duration::from_secs(1));
    println!("stop {:?}", start.elapsed());
}
