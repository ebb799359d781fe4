//! The private server of one measurement, and what it used.

#[path = "../../../../../tests/support/redis_server.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "tests of the library use it too, and more of it"
)]
mod redis_server;

use std::process::Command;
use std::time::Duration;

use peers::Failure;
use peers::child::cpu_of;
use redis_server::RedisServer;

use crate::candidate::Candidate;

/// A server without data.
#[derive(Debug)]
pub(crate) struct Server {
    /// The process.
    server: RedisServer,
    /// What it costs to ask for its usage.
    own: Usage,
}

/// What a server has used since its start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time.
    pub(crate) cpu: Duration,
    /// How often it read from a connection.
    pub(crate) reads: u64,
    /// How many commands it has run, those within scripts included.
    pub(crate) commands: u64,
}

impl Server {
    /// Starts a server that makes an fsync each second, or for each write.
    pub(crate) fn start(always: bool) -> Result<Self, Failure> {
        let fsync = if always { "always" } else { "everysec" };
        let mut options = vec!["--appendonly", "yes", "--appendfsync", fsync];
        // A rewrite starts at 64 MB, and would use a core in the middle of some measurements.
        options.extend(["--auto-aof-rewrite-percentage", "0"]);
        let mut server = Server {
            server: RedisServer::start_with(&options)?,
            own: Usage::default(),
        };
        let before = server.usage()?;
        let after = server.usage()?;
        server.own = Usage {
            cpu: Duration::ZERO,
            reads: after.reads - before.reads,
            commands: after.commands - before.commands,
        };
        Ok(server)
    }

    /// Returns the path of its socket.
    pub(crate) fn socket(&self) -> String {
        self.server.socket().display().to_string()
    }

    /// Returns what it has used.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        let stats = self.server.command(&["INFO", "stats"])?;
        Ok(Usage {
            cpu: cpu_of(self.server.pid())?,
            reads: field(&stats, "total_reads_processed")?,
            commands: field(&stats, "total_commands_processed")?,
        })
    }

    /// Returns what it has used since `before`, without what it cost to ask.
    pub(crate) fn used_since(&self, before: Usage) -> Result<Usage, Failure> {
        let now = self.usage()?;
        Ok(Usage {
            cpu: now.cpu.saturating_sub(before.cpu),
            reads: now.reads.saturating_sub(before.reads + self.own.reads),
            commands: (now.commands).saturating_sub(before.commands + self.own.commands),
        })
    }

    /// Returns the bytes of its data, without buffers.
    pub(crate) fn data_bytes(&self) -> Result<u64, Failure> {
        let info = self.server.command(&["INFO", "memory"])?;
        let buffers = field(&info, "mem_clients_normal")? + field(&info, "mem_aof_buffer")?;
        Ok(field(&info, "used_memory")?.saturating_sub(buffers))
    }

    /// Returns how many events of `candidate` are stored.
    pub(crate) fn unfinished(&self, candidate: Candidate) -> Result<u64, Failure> {
        let mut sum = 0;
        for command in candidate.unfinished() {
            let reply = self.server.command(command)?;
            let number = reply.trim().strip_prefix(':').map(str::parse::<u64>);
            sum += number.ok_or(reply.clone())??;
        }
        Ok(sum)
    }
}

/// Returns the number of line `name` of an answer to INFO.
fn field(info: &str, name: &str) -> Result<u64, Failure> {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.ok_or_else(|| format!("the server does not report `{name}`"))?;
    Ok(number.trim().parse()?)
}

/// Runs `redis-benchmark` on `server` with so many SETs, `pipeline` in flight, and returns its SETs in a second.
pub(crate) fn benchmark(server: &Server, count: u64, pipeline: u64) -> Result<f64, Failure> {
    let output = Command::new("redis-benchmark")
        .args(["-s", &server.socket(), "-c", "1", "-t", "set", "-d", "100"])
        .args(["-n", &count.to_string(), "-P", &pipeline.to_string()])
        .arg("--csv")
        .output()
        .map_err(|error| format!("redis-benchmark: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("\"SET\",\""));
    let rate = line.and_then(|line| line.split('"').next()?.parse().ok());
    rate.ok_or_else(|| format!("redis-benchmark answered {text:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "$9\r\n# Memory\r\nused_memory_rss:7\r\nused_memory:3\r\n";
        assert_eq!(field(info, "used_memory").ok(), Some(3));
        assert!(field(info, "used").is_err());
    }
}
