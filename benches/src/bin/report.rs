//! Measures what the local tier saves and prints it; `cargo xtask bench` runs this.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report is for a person at a terminal")]

use std::{process::ExitCode, sync::Arc};

use twotier_benches::{
    Result, advice,
    cli::{Args, Suite},
    hits,
    machine::Machine,
    misses, original, output, policies,
    progress::Progress,
    replay::{self, Plan},
    report::{Report, UNITS},
    scenarios,
    server::Server,
    stage::Stage,
};

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::parse(lexopt::Parser::from_env()) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    // Not on the thread that waits for the runtime, but on a worker, like the code of a service.
    match tokio::spawn(bench(args)).await {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Err(panic) => {
            eprintln!("error: {panic}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the suite and returns whether every scenario held.
async fn bench(args: Args) -> Result<bool> {
    let progress = Progress::start();
    match args.suite {
        Suite::Main => main_suite(args, progress).await,
        Suite::Hits => {
            let hits = hits::measure(args.smoke, &progress).await?;
            output::publish(&args, &hits, &hits.findings()).map(|()| true)
        }
        Suite::Misses => {
            let progress = Arc::new(progress);
            let misses = tokio::task::spawn_blocking(move || misses::measure(args.smoke, &progress)).await??;
            output::publish(&args, &misses, &misses.findings()).map(|()| true)
        }
        Suite::Policies => {
            let policies = policies::measure(args.smoke, args.traces.as_deref(), &progress)?;
            output::publish(&args, &policies, &policies.findings()).map(|()| true)
        }
        Suite::Advice => {
            let advice = advice::measure(args.smoke, args.traces.as_deref(), &progress)?;
            output::publish(&args, &advice, &advice.findings()).map(|()| true)
        }
        Suite::Memory | Suite::Holds => Err("this suite is measured by the programme of its name".into()),
    }
}

/// Runs the suite that compares twotier with itself, without and with the local tier.
async fn main_suite(args: Args, progress: Progress) -> Result<bool> {
    let size = if args.smoke { SMOKE } else { FULL };
    let server = Server::find()?.map(Arc::new);
    let mut left_out = Vec::new();
    let server_name = match &server {
        Some(server) => server.to_string(),
        None => {
            left_out.push(format!("everything but the in-memory regime, for want of a server: {}", Server::none()));
            "none".to_owned()
        }
    };
    progress.step(&format!("server: {server_name}"));

    let memory = Stage::in_memory();
    let near = server.as_ref().map(Stage::near);
    let far = match &server {
        Some(server) => Stage::far(server).map_err(|why| left_out.push(format!("the far regime: {why}"))).ok(),
        None => None,
    };

    let mut original = Vec::new();
    for (stage, repetitions) in
        [(Some(&memory), size.repetitions), (near.as_ref(), size.repetitions), (far.as_ref(), size.far_repetitions)]
    {
        if let Some(stage) = stage {
            original.push(original::measure(stage, size.keys, repetitions, &progress).await?);
        }
    }

    let mut verdicts = Vec::new();
    for stage in [Some(&memory), near.as_ref()].into_iter().flatten() {
        progress.step(&format!("{}: the six scenarios", stage.name()));
        verdicts.extend(scenarios::play(stage, size.scenario_keys).await);
    }

    let reference = replay::reference()?;
    let mut replays = Vec::new();
    if let Some(near) = &near {
        for plan in size.near_replays {
            replays.extend(replay::run(near, plan, &reference, &progress).await?);
        }
    }
    for plan in size.memory_replays {
        replays.extend(replay::run(&memory, plan, &reference, &progress).await?);
    }

    let report = Report {
        units: UNITS,
        smoke: args.smoke,
        took_seconds: progress.seconds(),
        machine: Machine::here(),
        server: server_name,
        left_out,
        original,
        scenarios: verdicts,
        replays,
    };
    eprintln!();
    println!("{report}");
    output::write_json(args.json.as_deref(), &report)?;
    Ok(report.broken().next().is_none())
}

/// How much of everything.
struct Size {
    keys: usize,
    repetitions: usize,
    /// One repetition far away takes the time of 400 round trips.
    far_repetitions: usize,
    scenario_keys: usize,
    near_replays: [Plan; 2],
    memory_replays: [Plan; 1],
}

const FULL: Size = Size {
    keys: 100,
    repetitions: 7,
    far_repetitions: 3,
    scenario_keys: 500,
    near_replays: [
        Plan { trace: "web12", first: None, repetitions: 5, seconds: 20.0, without_local: true },
        Plan { trace: "orm-busy", first: Some(100_000), repetitions: 3, seconds: 8.0, without_local: true },
    ],
    memory_replays: [Plan { trace: "orm-busy", first: None, repetitions: 1, seconds: 0.0, without_local: false }],
};

const SMOKE: Size = Size {
    keys: 5,
    repetitions: 2,
    far_repetitions: 1,
    scenario_keys: 50,
    near_replays: [
        Plan { trace: "web12", first: Some(2000), repetitions: 1, seconds: 0.0, without_local: true },
        Plan { trace: "orm-busy", first: Some(2000), repetitions: 1, seconds: 0.0, without_local: true },
    ],
    memory_replays: [Plan { trace: "web12", first: None, repetitions: 1, seconds: 0.0, without_local: false }],
};
