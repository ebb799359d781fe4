//! The start of an example whose processes are copies of one program, with its arguments. The example `shared_watch` has
//! it, too.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::role::Role;
use crate::story::Story;

/// Is the program: prints `help`, has a role of the story, or runs the story.
pub(crate) fn run(help: &str) -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{help}");
            return ExitCode::from(2);
        }
    };
    if let Some(role) = arguments.role {
        return match role.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let story = match Story::begin(arguments.redis) {
        Ok(story) => story,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match story.tell() {
        Ok(()) => {
            println!("passed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments.
struct Arguments {
    /// The server, if it is not a private one.
    redis: Option<String>,
    /// What this copy does, if it is one.
    role: Option<Role>,
}

impl Arguments {
    /// Reads the arguments. Returns `None` if help is asked for.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut arguments = Arguments {
            redis: None,
            role: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("redis") => arguments.redis = Some(parser.value()?.string()?),
                Long("role") => {
                    let words: Vec<OsString> = parser.values()?.collect();
                    arguments.role = Some(Role::parse(&words).ok_or("unknown role")?);
                }
                Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(arguments))
    }
}
