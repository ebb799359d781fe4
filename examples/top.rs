//! A terminal view of a program that serves a page: the same picture from its `/status.json`.
//!
//! ```text
//! cargo run --release --all-features --example dashboard
//! cargo run --release --all-features --example top -- http://127.0.0.1:9187/
//! ```
//!
//! `q` or Ctrl-C ends it, and the arrow keys show what does not fit. With `--once` it prints one picture and ends.

use std::collections::HashMap;
use std::error::Error;
use std::io::{IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lexopt::prelude::{Long, Value, ValueExt};
use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline};
use serde_json::Value as Json;

type Failure = Box<dyn Error + Send + Sync>;

const HELP: &str = "Usage: top [--once] URL, for example http://127.0.0.1:9187/?token=secret";

/// The time between pictures.
const INTERVAL: Duration = Duration::from_secs(1);

/// The longest wait for a key before the next answer is looked for.
const GLANCE: Duration = Duration::from_millis(50);

/// The longest wait for the program.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many values a line of the past has.
const PAST: usize = 300;

/// Where the program is: host with port, and the path with its query.
struct Place {
    host: String,
    query: String,
}

impl Place {
    /// Takes an address apart, such as `http://127.0.0.1:9187/?token=secret`.
    fn parse(url: &str) -> Result<Self, Failure> {
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| format!("`{url}` is no address: it must begin with http://"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let query = path
            .split_once('?')
            .map_or(String::new(), |(_, query)| format!("?{query}"));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| {
            !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())
        });
        Ok(Place {
            host: if has_port {
                host.to_owned()
            } else {
                format!("{host}:80")
            },
            query,
        })
    }

    /// Connects to the first address of the host that answers.
    fn connect(&self) -> std::io::Result<TcpStream> {
        let mut failed = std::io::Error::other("the name has no address");
        for address in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Asks for the status.
    fn ask(&self) -> Result<Json, Failure> {
        let unreachable = |error| format!("{} cannot be reached: {error}", self.host);
        let mut stream = self.connect().map_err(unreachable)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /status.json{} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.query, self.host
        )?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .map_err(|error| format!("{} does not answer: {error}", self.host))?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = serde_json::from_str(body);
        match (head.split(' ').nth(1), status) {
            (Some("200"), Ok(status)) => Ok(status),
            (Some("401"), _) => {
                Err("the program asks for its token: add ?token=… to the address".into())
            }
            (Some("403"), _) => Err("the program answers only to names of its own machine".into()),
            _ => Err(format!("{} serves no page of this library", self.host).into()),
        }
    }

    /// Asks again and again on another thread, until nobody takes the answers.
    fn watch(self) -> Receiver<Result<Json, Failure>> {
        let (answers, taken) = channel();
        std::thread::spawn(move || {
            while answers.send(self.ask()).is_ok() {
                std::thread::sleep(INTERVAL);
            }
        });
        taken
    }
}

/// What is shown.
#[derive(Default)]
struct View {
    /// The last answer.
    status: Json,
    /// Why there is no newer one.
    lost: Option<String>,
    /// The values of the past of each part.
    past: HashMap<String, Vec<u64>>,
    /// How many parts are above the picture.
    above: usize,
}

impl View {
    /// Takes an answer.
    fn take(&mut self, answer: Result<Json, Failure>) {
        match answer {
            Ok(status) => {
                for part in parts(&status) {
                    let past = self.past.entry(key(part)).or_default();
                    past.push(value_of(part));
                    let surplus = past.len().saturating_sub(PAST);
                    past.drain(..surplus);
                }
                self.status = status;
                self.lost = None;
            }
            Err(error) => self.lost = Some(error.to_string()),
        }
    }

    /// Takes a key. Returns whether it ends the program.
    fn press(&mut self, key: KeyEvent) -> bool {
        let last = parts(&self.status).len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') => return key.modifiers.contains(KeyModifiers::CONTROL),
            KeyCode::Down | KeyCode::Char('j') => self.above = (self.above + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.above = self.above.saturating_sub(1),
            KeyCode::Home => self.above = 0,
            KeyCode::End => self.above = last,
            _ => {}
        }
        false
    }

    /// Draws the first line and those parts that fit, at least a part of one.
    fn draw(&self, frame: &mut Frame<'_>) {
        let parts = parts(&self.status);
        let [title, mut rest] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(frame.area());
        // The past of all parts begins in one column, beside the longest text.
        let texts = parts.iter().flat_map(lines).map(|line| line.width());
        let text = texts.max().unwrap_or_default() as u16 + 1;
        let above = self.above.min(parts.len().saturating_sub(1));
        let mut shown = 0;
        for part in &parts[above..] {
            let height = height(part);
            if height > rest.height && shown > 0 {
                break;
            }
            let [area, below] =
                Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(rest);
            self.part(frame, part, area, text);
            (rest, shown) = (below, shown + 1);
        }
        let below = parts.len() - above - shown;
        frame.render_widget(self.title(above, below), title);
    }

    /// The first line: what is wrong comes first.
    fn title(&self, above: usize, below: usize) -> Paragraph<'_> {
        let alarm = Style::new()
            .fg(Color::White)
            .bg(Color::Red)
            .add_modifier(Modifier::BOLD);
        let problems = self.status["problems"].as_array();
        let problems = problems.into_iter().flatten().filter_map(Json::as_str);
        let problems: Vec<&str> = problems.collect();
        if let Some(lost) = &self.lost {
            return Paragraph::new(format!("connection lost, this is old: {lost}")).style(alarm);
        }
        if !problems.is_empty() {
            return Paragraph::new(problems.join("; ")).style(alarm);
        }
        let title = self.status["title"].as_str().unwrap_or("waiting");
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let hidden = [(above, "↑", "above"), (below, "↓", "below")]
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, key, place)| format!("   {key} {count} {place}"));
        Paragraph::new(Line::from(vec![
            Span::styled(title, bold),
            Span::raw("  live   q ends"),
            Span::raw(hidden.collect::<String>()),
        ]))
    }

    /// Draws one part: numbers and a bar of what is well, of the width `text`, and the past.
    fn part(&self, frame: &mut Frame<'_>, part: &Json, area: Rect, text: u16) {
        let name = format!(
            " {} {} ",
            part["kind"].as_str().unwrap_or("?"),
            part["name"].as_str().unwrap_or("?")
        );
        let block = Block::bordered().title(name);
        let inside = block.inner(area);
        frame.render_widget(block, area);
        let lines = lines(part);
        let [left, right] =
            Layout::horizontal([Constraint::Length(text), Constraint::Min(0)]).areas(inside);
        if let Some((ratio, label)) = health(part) {
            let [bar, rest] =
                Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(left);
            let color = if ratio < 1.0 {
                Color::Yellow
            } else {
                Color::Green
            };
            let gauge = Gauge::default()
                .ratio(ratio)
                .label(label)
                .gauge_style(color)
                .use_unicode(true);
            frame.render_widget(gauge, bar);
            frame.render_widget(Paragraph::new(lines), rest);
        } else {
            frame.render_widget(Paragraph::new(lines), left);
        }
        if let Some(past) = self.past.get(&key(part)) {
            let shown = past.len().saturating_sub(usize::from(right.width));
            let line = Sparkline::default()
                .data(&past[shown..])
                .style(Style::new().fg(Color::Cyan));
            frame.render_widget(line, right);
        }
    }
}

/// The parts of a status.
fn parts(status: &Json) -> &[Json] {
    status["parts"].as_array().map_or(&[], Vec::as_slice)
}

/// What distinguishes a part.
fn key(part: &Json) -> String {
    format!("{} {}", part["kind"], part["name"])
}

/// A number of a part.
fn number(part: &Json, field: &str) -> f64 {
    part[field].as_f64().unwrap_or_default()
}

/// The sum of a number over the topics of a dispatcher.
fn over_topics(part: &Json, field: &str) -> f64 {
    let topics = part["topics"].as_array();
    topics
        .into_iter()
        .flatten()
        .map(|topic| number(topic, field))
        .sum()
}

/// What the line of the past shows of a part.
#[expect(clippy::cast_sign_loss, reason = "rates and counts are never negative")]
fn value_of(part: &Json) -> u64 {
    let value = match part["kind"].as_str() {
        Some("watcher") => number(part, "beats"),
        Some("registry") => number(part, "listed"),
        Some("server" | "client") => number(part, "received"),
        Some("dispatcher") => over_topics(part, "done"),
        Some("pacemaker") => number(part, "ok"),
        Some("group") => number(part, "done"),
        _ => number(part, "delivered"),
    };
    value.round() as u64
}

/// How many lines a part takes.
fn height(part: &Json) -> u16 {
    let bar = u16::from(health(part).is_some());
    lines(part).len() as u16 + bar + 2
}

/// Which part of its members is well.
fn health(part: &Json) -> Option<(f64, String)> {
    let (well, all) = match part["kind"].as_str() {
        Some("watcher") => (
            number(part, "up"),
            number(part, "up") + number(part, "down"),
        ),
        Some("registry") => {
            let states = ["joining", "up", "suspect", "down"];
            (
                number(part, "listed"),
                states.map(|state| number(part, state)).iter().sum(),
            )
        }
        _ => return None,
    };
    let ratio = if all > 0.0 {
        (well / all).clamp(0.0, 1.0)
    } else {
        1.0
    };
    Some((ratio, format!("{well} of {all} are up")))
}

/// The percentiles of a lateness.
fn spread(part: &Json, field: &str) -> String {
    let times = part[field].as_array().into_iter().flatten();
    let times: Vec<String> = times
        .filter_map(Json::as_f64)
        .map(|ms| format!("{ms:.*}", if ms < 10.0 { 2 } else { 0 }))
        .collect();
    if times.is_empty() {
        return "–".to_owned();
    }
    format!("{} ms", times.join("/"))
}

/// The lines of a part.
fn lines(part: &Json) -> Vec<Line<'static>> {
    let of = |field| number(part, field);
    let texts = match part["kind"].as_str() {
        Some("watcher") => vec![format!(
            "{:.0} beats/s, {:.1} expiries/s, {:.1} recoveries/s, late p50/p99/max {}",
            of("beats"),
            of("expiries"),
            of("recoveries"),
            spread(part, "late")
        )],
        Some("registry") => vec![format!(
            "{} joining, {} suspect, {} down, {} drained, {} held",
            of("joining"),
            of("suspect"),
            of("down"),
            of("drained"),
            of("held")
        )],
        Some("server") => vec![format!(
            "{} open, {} handshaking, {:.0} in/s, {:.0} out/s, {} bytes queued",
            of("open"),
            of("handshaking"),
            of("received"),
            of("sent"),
            of("queued")
        )],
        Some("client") => vec![format!(
            "{}, {:.1} answered/s, {:.1} failed/s, {:.0} in/s, {:.0} out/s, {} queued",
            part["state"].as_str().unwrap_or("?"),
            of("answered"),
            of("failed"),
            of("received"),
            of("sent"),
            of("queued")
        )],
        Some("dispatcher") if part["available"] == false => {
            vec!["the store does not answer".to_owned()]
        }
        Some("dispatcher") => {
            let topics = part["topics"].as_array().into_iter().flatten();
            let topics = topics.map(|topic| {
                format!(
                    "{:12} {:>5} waiting {:>4} running {:>4} dead {:>7.1} done/s  late {}",
                    topic["topic"].as_str().unwrap_or_default(),
                    number(topic, "waiting"),
                    number(topic, "running"),
                    number(topic, "dead"),
                    number(topic, "done"),
                    spread(topic, "late")
                )
            });
            topics.collect()
        }
        Some("pacemaker") => vec![format!(
            "{}, {:.1} ok/s, {:.1} failed/s",
            part["connection"].as_str().unwrap_or("?"),
            of("ok"),
            of("failed")
        )],
        Some("group") => vec![format!(
            "{} waiting, {:.0} done/s, run p50/p99/max {}",
            of("waiting"),
            of("done"),
            spread(part, "run")
        )],
        _ => vec![format!(
            "{:.1} beats/s, {:.1} delivered/s, late p50/p99/max {}",
            of("beats"),
            of("delivered"),
            spread(part, "late")
        )],
    };
    let is_bad = match part["kind"].as_str() {
        Some("dispatcher") => part["available"] == false,
        Some("client") => part["online"] == false,
        Some("pacemaker") => part["connection"] == "offline",
        _ => false,
    };
    let topics = part["topics"].as_array();
    let lines = texts.into_iter().enumerate().map(|(index, text)| {
        let topic = topics.and_then(|topics| topics.get(index));
        let has_dead = topic.is_some_and(|topic| number(topic, "dead") > 0.0);
        let style = if is_bad || has_dead {
            Style::new().fg(Color::Red)
        } else {
            Style::new()
        };
        Line::styled(text, style)
    });
    lines.collect()
}

/// The options: where, and whether one picture is enough. `None` if the help was asked for.
fn options() -> Result<Option<(Place, bool)>, Failure> {
    let (mut url, mut is_once) = (None, false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("once") => is_once = true,
            Long("help") => {
                println!("{HELP}");
                return Ok(None);
            }
            Value(text) => url = Some(text.parse::<String>()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let url = url.ok_or("an address is needed; see --help")?;
    Ok(Some((Place::parse(&url)?, is_once)))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("top: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Shows one picture, or pictures until it is ended.
fn run() -> Result<(), Failure> {
    let Some((place, is_once)) = options()? else {
        return Ok(());
    };
    let mut view = View::default();
    view.take(Ok(place.ask()?));
    if is_once {
        let height = parts(&view.status).iter().map(height).sum::<u16>() + 1;
        let mut terminal = ratatui::Terminal::new(TestBackend::new(110, height))?;
        terminal.draw(|frame| view.draw(frame))?;
        for line in terminal.backend().to_string().lines() {
            println!("{}", line.trim_matches('"').trim_end());
        }
        return Ok(());
    }
    if !std::io::stdout().is_terminal() {
        return Err("the output is no terminal; --once prints one picture".into());
    }
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, &mut view, &place.watch());
    ratatui::restore();
    ended
}

/// Shows pictures until a key ends it.
fn show(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    answers: &Receiver<Result<Json, Failure>>,
) -> Result<(), Failure> {
    let mut is_new = true;
    loop {
        if is_new {
            terminal.draw(|frame| view.draw(frame))?;
        }
        is_new = event::poll(GLANCE)?;
        if is_new
            && let Event::Key(key) = event::read()?
            && key.is_press()
            && view.press(key)
        {
            return Ok(());
        }
        for answer in answers.try_iter() {
            view.take(answer);
            is_new = true;
        }
    }
}
