//! The homeroom program.

fn main() -> std::process::ExitCode {
    homeroom::cli::main()
}
