//! The acts of the demo, one after the other.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::Flags;
use super::load::Load;
use super::score::{self, Act, Score};
use super::screen::{Scene, Screen};
use super::stage::{Alone, RELEASES, SERVICE, Stage, WORKERS, free};
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::out::Out;
use crate::cli::words;
use crate::wire::{Rollout, Service, Status};

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(100);
/// Load before the first rollout, to compare with.
const BEFORE: Duration = Duration::from_secs(3);
/// Load after a rollout, so that late failures are seen.
const AFTER: Duration = Duration::from_secs(1);
/// How long the first workers may take.
const START: Duration = Duration::from_secs(15);
/// How often ports are looked for.
const TRIES: u32 = 5;
/// How long a rollout may take, its drains included.
const ROLLOUT: Duration = Duration::from_secs(60);
/// What the drawn numbers are of.
const RECENT: Duration = Duration::from_secs(2);
/// A port for the worker that stands alone.
const ALONE_PORT: u16 = 8180;

/// Why the demo could not be played to its end.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self(failure.message)
    }
}

/// Plays everything and keeps score. The stage is its owner's to clear.
pub(super) async fn play(stage: &mut Stage, out: &Out, flags: Flags) -> Result<Score, Broken> {
    let mut screen = Screen::new(out);
    let (public, admin) = (stage.public, stage.admin);
    screen.say(&format!(
        "remuda demo   proxy http://{public}   page http://{admin}"
    ));
    let client = Client::new(stage.socket());
    let load = Load::start(public);
    let mut actors = Actors {
        stage,
        client,
        load: &load,
        screen: &mut screen,
        releases: vec!["v1".to_owned()],
    };
    actors.watch("load on v1", BEFORE).await?;
    let before = score::Load::from(&load.tally().between(Duration::ZERO, load.elapsed()));
    let good = actors.roll("v1", "v2", "completed").await?;
    let broken = actors.roll("v2", "v3", "rolled_back").await?;
    load.stop().await;
    let all = score::Load::from(&load.tally().between(Duration::ZERO, Duration::MAX));
    let naive = match flags.naive {
        true => Some(actors.naive().await?),
        false => None,
    };
    screen.clear();
    Ok(Score {
        all,
        before,
        good,
        broken,
        naive,
    })
}

/// Sets a stage and waits until its workers serve.
pub(super) async fn set() -> Result<Stage, Broken> {
    let mut tries = 1;
    loop {
        let mut stage = Stage::set()?;
        match wait_until_ready(&mut stage).await {
            Ok(()) => return Ok(stage),
            // Somebody took a port between our look and the supervisor's.
            Err(Broken(why)) if why.contains("in use") && tries < TRIES => tries += 1,
            Err(broken) => return Err(broken),
        }
    }
}

async fn wait_until_ready(stage: &mut Stage) -> Result<(), Broken> {
    let client = Client::new(stage.socket());
    let give_up = Instant::now() + START;
    loop {
        if let Some(status) = stage.ended() {
            let words = stage.last_words();
            return Err(Broken(format!("the supervisor ended ({status}):\n{words}")));
        }
        let status = client.status().await;
        if let Ok(Some(service)) = status.map(|mut status| status.services.remove(SERVICE))
            && service.ready == WORKERS
        {
            return Ok(());
        }
        if Instant::now() > give_up {
            let words = stage.last_words();
            return Err(Broken(format!(
                "the workers were not ready in time:\n{words}"
            )));
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// Everything an act needs.
struct Actors<'a, 'b> {
    stage: &'a mut Stage,
    client: Client,
    load: &'a Load,
    screen: &'a mut Screen<'b>,
    releases: Vec<String>,
}

impl Actors<'_, '_> {
    /// Lets the load run for a while.
    async fn watch(&mut self, title: &str, length: Duration) -> Result<(), Broken> {
        let begin = Instant::now();
        while begin.elapsed() < length {
            let service = self.look().await?;
            self.show(title, begin, service.as_ref());
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Deploys a release, signals the supervisor and follows what comes of it.
    async fn roll(&mut self, from: &str, to: &str, wanted: &str) -> Result<Act, Broken> {
        let name = format!("{from} → {to}");
        self.stage.deploy(to)?;
        self.releases.push(to.to_owned());
        let generation = self.releases.len() as u64;
        let (begin, since) = (Instant::now(), self.load.elapsed());
        let pid = self.stage.pid();
        self.screen.say(&format!(
            "{name}: `ln -sfn {to} current && kill -USR2 {pid}`"
        ));
        self.stage.signal(Signal::SIGUSR2)?;
        let mut drains = Drains::default();
        let title = format!("rollout {name}");
        let (rollout, took) = loop {
            if begin.elapsed() > ROLLOUT {
                return Err(Broken(format!("{name} did not end in time")));
            }
            let service = self.look().await?;
            self.show(&title, begin, service.as_ref());
            if let Some(service) = &service {
                drains.look(service);
                if let Some(rollout) = ended(service, generation)
                    && service.generations.len() == 1
                {
                    break (rollout, begin.elapsed());
                }
            }
            tokio::time::sleep(GLANCE).await;
        };
        if wanted == "rolled_back" {
            self.stage.deploy(from)?;
        }
        let title = format!("{name} is over, the load goes on");
        self.watch(&title, AFTER).await?;
        let numbers = self.load.tally().between(since, self.load.elapsed());
        let mut act = Act::of(name, wanted, &rollout, &numbers);
        act.seconds = took.as_secs_f64();
        act.longest_drain_seconds = drains.longest.as_secs_f64();
        Ok(act)
    }

    /// The same deploy without remuda: one worker of the old release, killed, and one of the new.
    async fn naive(&mut self) -> Result<score::Load, Broken> {
        self.screen
            .say("without remuda: the worker is killed and started again");
        let address = free(ALONE_PORT)?;
        let old = Alone::start(self.stage, RELEASES[0], address.port())?;
        wait_until_open(address).await?;
        let load = Load::start(address);
        tokio::time::sleep(BEFORE).await;
        old.kill().await?;
        let new = Alone::start(self.stage, RELEASES[1], address.port())?;
        wait_until_open(address).await?;
        tokio::time::sleep(BEFORE).await;
        load.stop().await;
        new.kill().await?;
        let numbers = load.tally().between(Duration::ZERO, Duration::MAX);
        Ok(score::Load::from(&numbers))
    }

    async fn look(&mut self) -> Result<Option<Service>, Broken> {
        if let Some(status) = self.stage.ended() {
            let words = self.stage.last_words();
            return Err(Broken(format!("the supervisor ended ({status}):\n{words}")));
        }
        let Status { mut services, .. } = self.client.status().await?;
        Ok(services.remove(SERVICE))
    }

    fn show(&mut self, title: &str, begin: Instant, service: Option<&Service>) {
        let now = self.load.elapsed();
        let (recent, all) = {
            let tally = self.load.tally();
            let recent = tally.between(now.saturating_sub(RECENT), now);
            (recent, tally.between(Duration::ZERO, now))
        };
        self.screen.show(&Scene {
            title,
            elapsed: begin.elapsed(),
            service,
            releases: &self.releases,
            recent,
            all,
        });
    }
}

fn ended(service: &Service, generation: u64) -> Option<Rollout> {
    let rollout = service.rollout.as_ref()?;
    let is_over = rollout.to == generation && words::ended(&rollout.state);
    is_over.then(|| rollout.clone())
}

/// Waits until somebody accepts there.
async fn wait_until_open(address: std::net::SocketAddr) -> Result<(), Broken> {
    let give_up = Instant::now() + START;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if Instant::now() > give_up {
            return Err(Broken(format!("nobody listens on {address}")));
        }
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

/// How long workers drain, as seen from outside.
#[derive(Debug, Default)]
struct Drains {
    begun: BTreeMap<(u64, u32), Instant>,
    longest: Duration,
}

impl Drains {
    fn look(&mut self, service: &Service) {
        for worker in service.workers().filter(|it| it.state == "draining") {
            let key = (worker.generation, worker.slot);
            let begun = self.begun.entry(key).or_insert_with(Instant::now);
            self.longest = self.longest.max(begun.elapsed());
        }
    }
}
