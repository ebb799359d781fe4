//! Adaptive timeouts: what is learned, and what must not be.

use std::time::Duration;

use liveness::registry::{PhiAccrual, Policy, Registry, State};

use super::{Error, Stage, s};

#[test]
fn an_adaptive_policy_learns_the_pace_and_tells_how_suspicious_a_silence_is() -> Result<(), Error> {
    let stage = Stage::new(|it| it.policy(Policy::Adaptive(PhiAccrual::new())))?;
    stage.join([7])?;
    for _ in 0..100 {
        stage.pass(s(1))?;
        stage.beat([7])?;
    }
    let timeout = stage.registry.vitals(&7).expect("it is known").timeout;
    assert!(timeout < s(10), "{timeout:?}");
    stage.pass(timeout - Duration::from_nanos(1))?;
    let phi = stage.registry.vitals(&7).and_then(|it| it.phi);
    assert!(phi.is_some_and(|phi| phi > 1.0), "{phi:?}");
    assert_eq!(stage.state(7), Some(State::Up));
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), Some(State::Down));
    Ok(())
}

/// A process that is stopped for a second while a node beats on, and then asked for the node's timeout. The test runs
/// its own binary once more, as that process.
#[cfg(unix)]
#[test]
fn a_registry_that_was_stopped_does_not_learn_that_from_the_beats_that_waited() -> Result<(), Error>
{
    use std::io::{BufRead, BufReader};
    use std::net::UdpSocket;
    use std::process::{Command, Stdio};

    const ROLE: &str = "LIVENESS_TEST_STOPPED_REGISTRY";
    const INTERVAL: Duration = Duration::from_millis(200);
    if std::env::var_os(ROLE).is_some() {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let phi = PhiAccrual::new()
            .first_interval(INTERVAL)
            // No deadline comes near, so that nothing but the ticks would notice.
            .acceptable_pause(s(10))
            .min_deviation(Duration::from_millis(5));
        let registry = Registry::builder().policy(Policy::Adaptive(phi)).build()?;
        println!("line {}", socket.local_addr()?.port());
        let mut buffer = [0; 1];
        while let Ok(1) = socket.recv(&mut buffer) {
            registry.beat_or_register(&7, || ())?;
            if buffer[0] == b'?' {
                let vitals = registry.vitals(&7).expect("it is known");
                println!("line {}", vitals.timeout.as_millis());
            }
        }
        return Ok(());
    }
    let name = "registry::adaptive::a_registry_that_was_stopped_does_not_learn_that_from_the_beats_that_waited";
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture"])
        .env(ROLE, "")
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let signal = |signal| nix::sys::signal::kill(pid, signal);
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut numbers = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("line ")?.parse::<u64>().ok());
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = numbers.next().ok_or("it ended")?;
    socket.connect(("127.0.0.1", port as u16))?;
    let beat = |times: u32| {
        for _ in 0..times {
            socket.send(b".")?;
            std::thread::sleep(INTERVAL);
        }
        Ok::<(), Error>(())
    };
    beat(12)?;
    socket.send(b"?")?;
    let before = numbers.next().ok_or("it ended")?;
    std::thread::sleep(2 * INTERVAL); // the watcher has done what follows from a beat, and sleeps
    signal(nix::sys::signal::SIGSTOP)?;
    beat(6)?;
    signal(nix::sys::signal::SIGCONT)?;
    beat(3)?;
    socket.send(b"?")?;
    let after = numbers.next().ok_or("it ended")?;
    child.kill()?;
    child.wait()?;
    // A second and more among a dozen intervals of 200 ms would be more than a second of timeout.
    assert!(after < before + 500, "{before} ms, then {after} ms");
    Ok(())
}

#[test]
fn nodes_that_slow_down_for_good_are_learned_also_if_the_guard_holds_them() -> Result<(), Error> {
    for nodes in [1, 10] {
        let stage = Stage::new(|it| it.policy(Policy::Adaptive(PhiAccrual::new())))?;
        stage.join(0..nodes)?;
        for _ in 0..100 {
            stage.pass(s(1))?;
            stage.beat(0..nodes)?;
        }
        for _ in 0..50 {
            stage.pass(s(10))?;
            stage.beat(0..nodes)?;
        }
        let stats = stage.registry.stats();
        assert!(stats.deaths <= 3 * u64::from(nodes), "{stats:?}");
        assert!(stats.guards <= 3, "{stats:?}");
        assert_eq!(
            (stats.up, stage.state(0)),
            (nodes as usize, Some(State::Up))
        );
    }
    Ok(())
}
