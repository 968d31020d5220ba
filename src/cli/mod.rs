//! The composition root: reads the command line, puts the parts together, turns results into exit codes.

/// Runs the program.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
