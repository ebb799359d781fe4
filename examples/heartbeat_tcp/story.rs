//! What happens to the processes, and what they must say to it.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::copy::{Copy, Event};
use crate::role::{CLIENT_OFFLINE, PING_AFTER, Role, SERVER_OFFLINE};

/// What goes wrong.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// By how much a verdict may be late, because the machine has other things to do.
const SLACK: Duration = Duration::from_secs(10);

/// By how much a peer may have been silent before this program knows that it is.
const HASTE: Duration = Duration::from_millis(500);

/// For how long heartbeats go on undisturbed: a few pings.
const CALM: Duration = Duration::from_secs(1);

/// The causes by which a connection ends whose peer has been killed or has closed it.
const ENDED: [&str; 3] = ["Eof", "Reset", "Peer"];

/// The story.
pub(crate) struct Story {
    /// When it began.
    began: Instant,
}

impl Default for Story {
    fn default() -> Self {
        let began = Instant::now();
        Story { began }
    }
}

impl Story {
    /// Lets it happen, and checks each event.
    pub(crate) fn tell(&self) -> Result<(), Failure> {
        let (server, address) = self.server("127.0.0.1:0")?;
        let [ada, bob, cyd] =
            ["ada", "bob", "cyd"].map(|name| self.client(name, &server, &address));
        let (ada, bob, cyd) = (ada?, bob?, cyd?);
        thread::sleep(CALM);

        let killed = bob.kill()?;
        self.say("story", "bob is killed");
        self.ended(&server, &["gone", "bob"], killed)?;

        let stopped = cyd.signal(Signal::SIGSTOP)?;
        self.say("story", "cyd is stopped");
        self.silent(&server, &["gone", "cyd"], stopped, CLIENT_OFFLINE)?;
        let continued = cyd.signal(Signal::SIGCONT)?;
        self.say("story", "cyd is continued");
        self.ended(&cyd, &["offline", "1"], continued)?;
        self.must_be(&cyd, &["online"])?;
        self.must_be(&server, &["joined", "cyd"])?;
        thread::sleep(CALM);

        let killed = server.kill()?;
        self.say("story", "the server is killed");
        for client in [&ada, &cyd] {
            self.ended(client, &["offline", "1"], killed)?;
        }
        thread::sleep(CALM);
        let server = self.restart(&address)?;
        for client in [&ada, &cyd] {
            let failures = self.back(client)?;
            if failures == 0 {
                return Err(format!("{} has not tried before", client.name()).into());
            }
        }
        self.both(&server, "joined")?;
        thread::sleep(CALM);

        let stopped = server.signal(Signal::SIGSTOP)?;
        self.say("story", "the server is stopped");
        for client in [&ada, &cyd] {
            self.silent(client, &["offline", "1"], stopped, SERVER_OFFLINE)?;
        }
        server.kill()?;
        self.say("story", "the server is killed");
        let server = self.restart(&address)?;
        self.both(&server, "joined")?;
        thread::sleep(CALM);
        self.finish(server, [ada, cyd])
    }

    /// Lets all of them end by themselves.
    fn finish(&self, mut server: Copy, clients: [Copy; 2]) -> Result<(), Failure> {
        self.say("story", "the clients and the server end");
        for mut client in clients {
            let name = client.name();
            client.end();
            // The system has accepted connections for the stopped server, so that each client may have been online and
            // offline some times more.
            let mut is_online = false;
            loop {
                let event = client.next()?;
                match *event.words() {
                    ["online"] => is_online = true,
                    ["offline", _, "Unreachable"] => is_online = false,
                    ["offline", _, cause, ..] if ENDED.contains(&cause) => is_online = false,
                    ["balanced"] if is_online => break,
                    _ => return Err(unexpected(&client, &event, &["online"])),
                }
            }
            client.join()?;
            self.say(name, "balanced");
        }
        self.both(&server, "gone")?;
        server.end();
        self.must_be(&server, &["balanced"])?;
        server.join()?;
        self.say("story", "passed");
        Ok(())
    }

    /// Prints what happens now.
    fn say(&self, who: &str, text: &str) {
        self.say_of(Instant::now(), who, text);
    }

    /// Prints what has happened at `at`.
    fn say_of(&self, at: Instant, who: &str, text: &str) {
        let seconds = (at - self.began).as_secs_f64();
        println!("{seconds:6.2} s  {who:<8}{text}");
    }

    /// Waits for the next event of a copy, and prints it with the time at which it came.
    fn next(&self, copy: &Copy) -> Result<Event, Failure> {
        let event = copy.next()?;
        // Beyond the cause there are only numbers, which a verdict prints by itself.
        let end = event.words.len().min(3);
        self.say_of(event.at, copy.name(), &event.words[..end].join(" "));
        Ok(event)
    }

    /// Waits for the next event of a copy, which must begin with `words`.
    fn must_be(&self, copy: &Copy, words: &[&str]) -> Result<Event, Failure> {
        let event = self.next(copy)?;
        if !event.words().starts_with(words) {
            return Err(unexpected(copy, &event, words));
        }
        Ok(event)
    }

    /// Waits for an event for each of two clients, in any order.
    fn both(&self, server: &Copy, what: &str) -> Result<(), Failure> {
        let events = [
            self.must_be(server, &[what])?,
            self.must_be(server, &[what])?,
        ];
        let mut names = events.each_ref().map(|event| event.words[1].as_str());
        names.sort_unstable();
        let is_end = |event: &Event| event.words.get(2).is_none_or(|it| ENDED.contains(&&**it));
        if names != ["ada", "cyd"] || !events.iter().all(is_end) {
            return Err(format!("{what} {names:?} in place of ada and cyd").into());
        }
        Ok(())
    }

    /// Starts a server. Returns where it listens.
    fn server(&self, address: &str) -> Result<(Copy, String), Failure> {
        let server = Copy::start("server", &Role::Server(address.to_owned()))?;
        let event = self.must_be(&server, &["listens"])?;
        let address = event.words.get(1).ok_or("no address")?.clone();
        Ok((server, address))
    }

    /// Starts a server again, on its former address.
    fn restart(&self, address: &str) -> Result<Copy, Failure> {
        self.say("story", "the server is started again");
        Ok(self.server(address)?.0)
    }

    /// Starts a client, and waits until it is connected.
    fn client(&self, name: &'static str, server: &Copy, address: &str) -> Result<Copy, Failure> {
        let client = Copy::start(name, &Role::Client(name.to_owned(), address.to_owned()))?;
        self.must_be(&client, &["online"])?;
        self.must_be(server, &["joined", name])?;
        Ok(client)
    }

    /// Waits until a client is online again. Returns how many attempts have failed.
    fn back(&self, client: &Copy) -> Result<u32, Failure> {
        let mut failures = 0;
        loop {
            let event = client.next()?;
            match *event.words() {
                ["online"] => {
                    let text = format!("online, after {failures} attempts that failed");
                    self.say_of(event.at, client.name(), &text);
                    return Ok(failures);
                }
                ["offline", _, "Unreachable"] => failures += 1,
                _ => return Err(unexpected(client, &event, &["online"])),
            }
        }
    }

    /// Waits for the verdict on a peer whose connection has ended after `signal`.
    fn ended(&self, copy: &Copy, words: &[&str], signal: Instant) -> Result<(), Failure> {
        let event = self.must_be(copy, words)?;
        let took = event.at - signal;
        if !ENDED.contains(&&*event.words[2]) || took > SLACK {
            return Err(unexpected(copy, &event, words));
        }
        self.say_of(
            event.at,
            "",
            &format!("noticed {took:.1?} after the signal"),
        );
        Ok(())
    }

    /// Waits for the verdict on a peer that is silent after `signal`, which must come after exactly `timeout`.
    fn silent(
        &self,
        copy: &Copy,
        words: &[&str],
        signal: Instant,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let event = self.must_be(copy, words)?;
        let [_, _, "Silence", silent, late] = *event.words() else {
            return Err(unexpected(copy, &event, words));
        };
        let [silent, late] = [silent, late].map(|it| it.parse().map(Duration::from_nanos));
        let (silent, late) = (silent?, late?);
        let took = event.at - signal;
        self.say_of(
            event.at,
            "",
            &format!(
                "after {silent:.3?} without a byte, {late:.1?} late; {took:.3?} after the signal"
            ),
        );
        if silent < timeout {
            return Err(format!("the verdict is early: {silent:?} instead of {timeout:?}").into());
        }
        // The last byte came before the signal: by a ping at most, if that was not late itself.
        let earliest = timeout.saturating_sub(PING_AFTER + HASTE);
        if silent > timeout + SLACK || took < earliest || took > timeout + SLACK {
            return Err(format!("the verdict is not due after {timeout:?}").into());
        }
        Ok(())
    }
}

/// Returns the failure that an event is not what it must be.
fn unexpected(copy: &Copy, event: &Event, words: &[&str]) -> Failure {
    let (name, event) = (copy.name(), event.words());
    format!("{name}: {event:?} in place of {words:?}, or too late").into()
}
