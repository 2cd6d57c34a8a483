//! Ends of a log, clean and not, and what it must be when it is opened again.

use nix::errno::Errno;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::storage::simulated::Fault;

use crate::world::World;

impl World {
    pub fn close(&mut self) {
        self.finish_sync();
        let log = self.log.take().expect("it is open");
        self.tally.add_counters(&log);
        let (synced, closed) = (log.synced(), log.close());
        self.say(format_args!("close: {closed:?}"));
        if closed.is_ok() {
            self.past = [(synced, self.model.clone())].into();
        }
        self.storage.kill();
        self.open();
    }

    pub fn kill(&mut self) {
        self.say("kill");
        self.tally.kills += 1;
        self.crash();
        self.storage.kill();
        self.open();
    }

    pub fn lose_power(&mut self) {
        self.say("power loss");
        self.tally.power_losses += 1;
        self.crash();
        self.storage.lose_power();
        self.open();
    }

    fn crash(&mut self) {
        self.forget_what_is_durable();
        self.outcome = None;
        let log = self.log.take().expect("it is open");
        self.tally.add_counters(&log);
    }

    /// Opens the log, which must then be what the model was at some time since the last sync.
    pub fn open(&mut self) {
        let seed = self.random.u64(..);
        if self.random.u8(..8) == 0 {
            self.crash_while_opening(seed);
        }
        if self.random.u8(..8) == 0 {
            self.fault();
        }
        let opened = Log::open(self.storage.clone(), self.options, seed);
        let (log, damage) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.say(format_args!("open: {error}"));
                self.heal();
                Log::open(self.storage.clone(), self.options, seed).expect("nothing is in the way")
            }
        };
        self.say(format_args!("open: {damage:?}"));
        assert!(damage.gaps.is_empty() && damage.missing_segments.is_empty(), "{damage:?}");
        assert!(damage.unreadable_segments.is_empty() && !damage.notes_lost, "{damage:?}");
        let ticket = log.appended();
        if !self.past.is_empty() {
            let found = self.past.iter().position(|(_, model)| model.difference(log.state()).is_none());
            let Some(found) = found else {
                let differences = self.past.iter().map(|(ticket, model)| (ticket, model.difference(log.state())));
                panic!("the log is as it never was: {:#?}", differences.collect::<Vec<_>>());
            };
            self.tally.lost_frames += (self.past.len() - 1 - found) as u64;
            self.model = self.past[found].1.clone();
            // What the log found may not be durable yet.
            self.past.truncate(found + 1);
            self.past.iter_mut().skip(1).for_each(|past| past.0 = ticket);
        }
        self.log = Some(log);
        self.read_all();
    }

    /// Opening gets so far and no further, and the power goes then.
    fn crash_while_opening(&mut self, seed: u64) {
        self.tally.crashes_while_opening += 1;
        let after = self.random.u64(..60);
        self.storage.fail(Some(Fault { after, times: u64::MAX, errno: Errno::EIO }));
        let opened = Log::open(self.storage.clone(), self.options, seed ^ 1).map(|(_, damage)| damage);
        self.say(format_args!("crash at call {after} of opening: {opened:?}"));
        if self.random.bool() {
            self.storage.lose_power();
        } else {
            self.storage.kill();
        }
    }
}
