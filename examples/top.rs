//! A terminal view of a program that serves a page: the same picture from its `/status.json`.
//!
//! ```text
//! cargo run --release --all-features --example dashboard
//! cargo run --release --all-features --example top -- http://127.0.0.1:9187/
//! ```
//!
//! `q` ends it. With `--once` it prints one picture and ends.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lexopt::prelude::{Long, Value, ValueExt};
use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline};
use serde_json::Value as Json;

type Failure = Box<dyn Error + Send + Sync>;

/// The time between pictures.
const INTERVAL: Duration = Duration::from_secs(1);

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
            .ok_or("an address begins with http://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let query = path
            .split_once('?')
            .map_or(String::new(), |(_, query)| format!("?{query}"));
        Ok(Place {
            host: host.to_owned(),
            query,
        })
    }

    /// Asks for the status.
    fn ask(&self) -> Result<Json, Failure> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(
            stream,
            "GET /status.json{} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.query, self.host
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or("the answer has no end")?;
        let status = head.split(' ').nth(1).unwrap_or("no status");
        if status != "200" {
            return Err(format!("the program answers with {status}").into());
        }
        Ok(serde_json::from_str(body)?)
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
}

impl View {
    /// Asks for the next picture.
    fn update(&mut self, place: &Place) {
        match place.ask() {
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

    /// Draws everything.
    fn draw(&self, frame: &mut Frame<'_>) {
        let parts = parts(&self.status);
        let rows = parts.iter().map(|part| Constraint::Length(height(part)));
        let rows: Vec<_> = [Constraint::Length(1)]
            .into_iter()
            .chain(rows)
            .chain([Constraint::Min(0)])
            .collect();
        let areas = Layout::vertical(rows).split(frame.area());
        frame.render_widget(self.title(), areas[0]);
        for (part, area) in parts.iter().zip(areas.iter().skip(1)) {
            self.part(frame, part, *area);
        }
    }

    /// The first line: what is wrong comes first.
    fn title(&self) -> Paragraph<'_> {
        let alarm = Style::new()
            .fg(Color::White)
            .bg(Color::Red)
            .add_modifier(Modifier::BOLD);
        let problems = self.status["problems"].as_array();
        let problems = problems.into_iter().flatten().filter_map(Json::as_str);
        let problems: Vec<&str> = problems.collect();
        if let Some(lost) = &self.lost {
            return Paragraph::new(format!("connection lost: {lost}; what is shown is old"))
                .style(alarm);
        }
        if !problems.is_empty() {
            return Paragraph::new(problems.join("; ")).style(alarm);
        }
        let title = self.status["title"].as_str().unwrap_or("waiting");
        let bold = Style::new().add_modifier(Modifier::BOLD);
        Paragraph::new(Line::from(vec![
            Span::styled(title, bold),
            Span::raw("  live  (q ends)"),
        ]))
    }

    /// Draws one part: numbers, a bar of what is well, and the past.
    fn part(&self, frame: &mut Frame<'_>, part: &Json, area: Rect) {
        let name = format!(
            " {} {} ",
            part["kind"].as_str().unwrap_or("?"),
            part["name"].as_str().unwrap_or("?")
        );
        let block = Block::bordered().title(name);
        let inside = block.inner(area);
        frame.render_widget(block, area);
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(76), Constraint::Min(0)]).areas(inside);
        let lines = lines(part);
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
        return "-".to_owned();
    }
    format!("{} ms", times.join(" / "))
}

/// The lines of a part.
fn lines(part: &Json) -> Vec<Line<'static>> {
    let of = |field| number(part, field);
    let texts = match part["kind"].as_str() {
        Some("watcher") => vec![format!(
            "{:.0} beats/s, {:.1} expiries/s, {:.1} recoveries/s, late {}",
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
            "{:.1} beats/s, {:.1} delivered/s, late {}",
            of("beats"),
            of("delivered"),
            spread(part, "late")
        )],
    };
    texts.into_iter().map(Line::from).collect()
}

fn main() -> Result<(), Failure> {
    let (mut url, mut is_once) = (None, false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("once") => is_once = true,
            Long("help") => {
                println!(
                    "Usage: top [--once] URL, for example http://127.0.0.1:9187/?token=secret"
                );
                return Ok(());
            }
            Value(text) => url = Some(text.parse::<String>()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let place = Place::parse(&url.ok_or("an address is needed; see --help")?)?;
    let mut view = View::default();
    if is_once {
        view.status = place.ask()?;
        let height = parts(&view.status).iter().map(height).sum::<u16>() + 1;
        let mut terminal = ratatui::Terminal::new(TestBackend::new(110, height))?;
        terminal.draw(|frame| view.draw(frame))?;
        for line in terminal.backend().to_string().lines() {
            println!("{}", line.trim_matches('"').trim_end());
        }
        return Ok(());
    }
    let mut terminal = ratatui::init();
    let ended = watch(&mut terminal, &mut view, &place);
    ratatui::restore();
    ended
}

/// Shows pictures until `q` is pressed.
fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    place: &Place,
) -> Result<(), Failure> {
    loop {
        view.update(place);
        terminal.draw(|frame| view.draw(frame))?;
        let next = Instant::now() + INTERVAL;
        while event::poll(next.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key)
                    if key.kind == KeyEventKind::Press
                        && matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) =>
                {
                    return Ok(());
                }
                Event::Resize(..) => {
                    terminal.draw(|frame| view.draw(frame))?;
                }
                _ => {}
            }
        }
    }
}
