//! Runs worlds to their end and compares what was promised with what is there; and takes rules away.

use super::*;
use crate::queue::window::{SentNote, Why};

impl World {
    /// Everything, to the end; then what is in the log is compared with what was said.
    fn run(&mut self) -> Held {
        for _ in 0..STEPS {
            self.step()?;
        }
        (self.faults, self.refuses_next) = (0, false);
        for n in 0..2000 {
            if self.settled == RECORDS {
                break;
            }
            // What is refused while it is in doubt waits for somebody to mend it.
            if n == 400 {
                (self.brokers.largest, self.brokers.poison) = (None, None);
            }
            self.send()?;
            self.go_on()?;
        }
        while !self.zombies.is_empty() {
            self.run_zombie();
        }
        (0..RECORDS).for_each(|_| self.brokers.replicate());
        if self.settled != RECORDS {
            return Err(format!("it does not end: {:?}", self.window.flight));
        }
        self.sync();
        self.sync();
        self.check_disk()?;
        if self.charged != 0 {
            return Err(format!("{} bytes are still charged", self.charged));
        }
        self.check_log()
    }

    fn check_log(&self) -> Held {
        let mut copies = [0; RECORDS as usize];
        let mut newest = None;
        for number in self.brokers.committed() {
            copies[number as usize] += 1;
            if copies[number as usize] > 1 || self.dead == Some(number) || self.taken[number as usize] {
                continue;
            }
            if newest >= Some(number) {
                return Err(format!("{number} stands behind a later one"));
            }
            newest = Some(number);
        }
        let results = self.request.results().records;
        let mut doubled = 0;
        for (number, (copies, result)) in (0..RECORDS).zip(copies.into_iter().zip(results)) {
            let is_dead = self.dead == Some(number);
            if !self.climate.kills && result.error_code != if is_dead { INVALID_RECORD } else { NONE } {
                return Err(format!("the receipt of {number} says {}", result.error_code));
            }
            if self.taken[number as usize] {
                continue;
            }
            if copies == 0 && !is_dead {
                return Err(format!("{number} is lost"));
            }
            doubled += u32::from(copies > 1 || is_dead && copies > 0);
        }
        if doubled > self.counted {
            return Err(format!("{doubled} doubled, {} counted", self.counted));
        }
        let Climate { limits, poison, old, unclean, .. } = self.climate;
        if self.counted > 0 && !(limits || poison || old || unclean) {
            return Err(format!("{} counted, and nothing can be doubled here", self.counted));
        }
        Ok(())
    }

    // What is taken away.

    pub(super) fn take_away_before_sending(&mut self) {
        let proven = self.window.lane.is_some_and(|lane| lane.proven);
        let doubtful = self.window.batches.iter().any(|batch| batch.in_doubt);
        if self.without == Without::PiecesAreNoted {
            let unsaid = self.window.batches.iter_mut().filter(|batch| batch.note == SentNote::Missing);
            unsaid.for_each(|batch| batch.note = SentNote::Durable);
        }
        let Some(flight) = &mut self.window.flight else { return };
        match self.without {
            Without::FirstFlightAlonePerLane if !proven => flight.alone = false,
            Without::FirstFlightAlone if !doubtful => flight.alone = false,
            Without::SameLaneAgain if doubtful && flight.in_flight.is_empty() => self.bump(),
            _ => {}
        }
    }

    pub(super) fn other_attempt(&self, attempt: Attempt) -> Attempt {
        let is_probe = self.window.flight.as_ref().is_some_and(|flight| flight.phase != Phase::Go);
        let newest_first = self.without == Without::OldestFirst && !is_probe && self.window.in_flight() == 0;
        if newest_first { self.window.batches[self.window.batches.len() - 1].attempt() } else { attempt }
    }

    /// What is in doubt and refused is a dead letter at once, and not counted.
    pub(super) fn take_away_settling(&mut self, counted: u32) {
        let settles = matches!(self.window.flight.as_ref().map(|f| &f.phase), Some(Phase::Scan(Why::Settle(_))));
        if self.without == Without::SettledBeforeGivenUp && settles {
            let Some((number, _)) = self.window.inquire() else { return };
            for _ in 0..MAX_BATCHES {
                let _ = self.act(|window, terms, effects| {
                    window.found(number, Finding::Absent, terms, effects);
                    while matches!(window.flight.as_ref().map(|f| &f.phase), Some(Phase::Probe { .. })) {
                        window.probe_failed(OUT_OF_ORDER_SEQUENCE_NUMBER, None, terms, effects);
                    }
                });
            }
            self.counted = counted;
        }
    }

    pub(super) fn take_away_probes(&mut self) {
        let probes = self.window.flight.as_ref().is_some_and(|flight| flight.phase == Phase::Ask);
        if self.without == Without::Probes && probes {
            self.bump();
        }
    }

    /// What clients do that know no ladder: a new epoch at once, and nothing is counted.
    pub(super) fn bump(&mut self) {
        let mut effects = vec![];
        self.window.new_epoch(&mut effects);
        self.carry_out(effects).unwrap();
    }
}

/// The first of so many worlds that breaks a promise. `SEED=n` runs one, `SEEDS=n` so many.
fn broken(climate: Climate, without: Without, worlds: u64) -> Option<String> {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(worlds),
    };
    seeds.into_iter().find_map(|seed| {
        let failed = World::new(seed, climate, without).run().err()?;
        Some(format!("SEED={seed}: {failed}"))
    })
}

fn holds(climate: Climate) {
    assert_eq!(broken(climate, Without::Nothing, 800), None, "{climate:?}");
}

fn holds_killed(climate: Climate) {
    holds_read_or_not(Climate { kills: true, ..climate });
}

/// With and without the right to read the topic.
fn holds_read_or_not(climate: Climate) {
    holds(climate);
    holds(Climate { unreadable: true, ..climate });
}

#[tokio::test]
async fn faults_of_network_and_brokers_lose_double_reorder_and_count_nothing() {
    holds_read_or_not(Climate::default());
}

#[tokio::test]
async fn what_is_doubled_where_a_limit_comes_and_goes_is_counted() {
    holds_read_or_not(Climate { limits: true, ..Climate::default() });
}

#[tokio::test]
async fn a_record_that_is_refused_now_and_then_is_a_dead_letter_or_delivered() {
    holds_read_or_not(Climate { poison: true, ..Climate::default() });
    holds_read_or_not(Climate { poison: true, limits: true, ..Climate::default() });
}

#[tokio::test]
async fn what_is_doubled_where_brokers_forget_old_records_is_counted() {
    holds_read_or_not(Climate { old: true, ..Climate::default() });
    holds_read_or_not(Climate { old: true, mixed: true, ..Climate::default() });
}

#[tokio::test]
async fn with_all_of_these_at_once_nothing_is_lost_and_what_is_doubled_is_counted() {
    holds_read_or_not(Climate { old: true, poison: true, limits: true, ..Climate::default() });
    holds_read_or_not(Climate { old: true, poison: true, limits: true, mixed: true, ..Climate::default() });
}

#[tokio::test]
async fn an_unclean_election_takes_what_it_takes_and_the_rest_goes_on() {
    holds_read_or_not(Climate { unclean: true, ..Climate::default() });
    holds_read_or_not(Climate { unclean: true, old: true, limits: true, poison: true, ..Climate::default() });
}

#[tokio::test]
async fn kills_and_power_losses_lose_double_reorder_and_count_nothing() {
    holds_killed(Climate::default());
}

#[tokio::test]
async fn kills_where_batches_are_cut_and_dead_letters_made_lose_nothing_and_count_what_is_doubled() {
    holds_killed(Climate { limits: true, ..Climate::default() });
    holds_killed(Climate { poison: true, ..Climate::default() });
    holds_killed(Climate { poison: true, limits: true, ..Climate::default() });
}

#[tokio::test]
async fn kills_where_brokers_forget_old_records_lose_nothing_and_count_what_is_doubled() {
    holds_killed(Climate { old: true, ..Climate::default() });
    holds_killed(Climate { old: true, mixed: true, ..Climate::default() });
    holds_killed(Climate { old: true, poison: true, limits: true, ..Climate::default() });
    holds_killed(Climate { old: true, poison: true, limits: true, mixed: true, ..Climate::default() });
}

#[tokio::test]
async fn kills_around_an_unclean_election_lose_no_more_than_it_takes() {
    holds_killed(Climate { unclean: true, ..Climate::default() });
    holds_killed(Climate { unclean: true, old: true, limits: true, poison: true, ..Climate::default() });
}

/// Without them something is lost, doubled or does not end in some world: so the worlds are rough enough.
#[tokio::test]
async fn each_rule_of_flight_is_needed() {
    let calm = Climate::default();
    let old = Climate { old: true, ..calm };
    let refusing = Climate { limits: true, poison: true, ..calm };
    let mixed = Climate { old: true, mixed: true, limits: true, ..calm };
    let killed = Climate { kills: true, ..calm };
    for (without, climate) in [
        (Without::FirstFlightAlonePerLane, calm),
        (Without::FirstFlightAlone, calm),
        (Without::OldestFirst, calm),
        (Without::DoubtWhenTheLeaderMoved, refusing),
        (Without::Probes, calm),
        (Without::IdOfTheOld, old),
        (Without::SameLaneAgain, calm),
        (Without::SplitsKeepNumbers, Climate { limits: true, ..calm }),
        (Without::MixedAreNotSplit, mixed),
        (Without::SuccessProves, calm),
        (Without::ScanToTheLogsEnd, old),
        (Without::OldOnLostConnectionsAreCounted, old),
        (Without::SettledBeforeGivenUp, refusing),
        (Without::SentIsNotedFirst, killed),
        (Without::PiecesAreNoted, Climate { limits: true, ..killed }),
        (Without::InheritedKeepsItsLane, killed),
        (Without::FollowersKeepTheLane, Climate { limits: true, poison: true, unreadable: true, ..killed }),
        (Without::DeadLettersEndTheLane, Climate { poison: true, ..killed }),
        (Without::EndedLanesAreFenced, Climate { limits: true, poison: true, unreadable: true, ..killed }),
        (Without::CountsSurvive, Climate { limits: true, poison: true, unreadable: true, ..killed }),
    ] {
        assert!(broken(climate, without, 20_000).is_some(), "{without:?} is not missed");
    }
}
