//! What goes wrong: connections that are lost with what is on them, leaders that change, brokers that forget, limits that change.

use super::*;

impl World {
    pub(super) fn lose_connection(&mut self, broker_is_gone: bool) -> Held {
        let left: VecDeque<Bytes> = self.line.requests.drain(..).map(|(_, batch)| batch).collect();
        if !broker_is_gone {
            self.zombies.push((self.line.to, left));
        }
        if self.random.bool() {
            let mut effects = vec![];
            self.window.lost(ConnectionId(self.connection), &mut effects);
            self.carry_out(effects)?;
        }
        self.connect()
    }

    /// A partition moves to its new leader when all answers of the old one are in.
    pub(super) fn follow_leader(&mut self) -> Held {
        if self.line.to != self.brokers.leader && self.window.in_flight() == 0 { self.connect() } else { Ok(()) }
    }

    pub(super) fn run_zombie(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let at = self.random.usize(..self.zombies.len());
        let (to, requests) = &mut self.zombies[at];
        match requests.pop_front() {
            Some(batch) if self.random.u32(..6) > 0 => drop(self.brokers.produce(*to, &batch)),
            _ => drop(self.zombies.swap_remove(at)),
        }
    }

    pub(super) fn fault(&mut self) -> Held {
        if self.faults == 0 {
            return Ok(());
        }
        self.faults -= 1;
        let replica = self.random.usize(..2);
        // Where old and fresh records meet: in every other world only what makes pieces, and forgets them.
        let kinds: &[u32] =
            if self.cuts_and_forgets { &[2, 7, 7, 8, 8, 11] } else { &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11] };
        match *self.random.choice(kinds).unwrap() {
            0 if self.line.waiting.is_none() => {
                if let Some((attempt, _)) = self.line.requests.pop_front() {
                    let codes = [NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION];
                    let code = *self.random.choice(&codes).unwrap();
                    self.answer(attempt, code, -1);
                }
            }
            0 | 1 => {
                if let Some((attempt, ..)) = self.line.waiting.take() {
                    let codes = [
                        REQUEST_TIMED_OUT,
                        NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                        NOT_LEADER_OR_FOLLOWER,
                        UNKNOWN_TOPIC_OR_PARTITION,
                    ];
                    let code = *self.random.choice(&codes).unwrap();
                    self.answer(attempt, code, -1);
                }
            }
            2 | 3 => self.lose_connection(false)?,
            4 => self.brokers.change_leader(replica == 0),
            5 => {
                self.brokers.replicas[replica].snapshot_only();
                self.zombies.retain(|(to, _)| *to != replica);
                if self.line.to == replica {
                    self.lose_connection(true)?;
                }
            }
            6 if self.window.batches.is_empty() => self.pause()?,
            7 if self.cuts_and_forgets => {
                self.brokers.replicas.iter_mut().for_each(|replica| replica.known.retain(|_, known| !known.is_old));
            }
            7 if self.climate.old => self.brokers.replicas[replica].known.retain(|_, known| !known.is_old),
            8 if self.climate.limits => {
                self.brokers.largest = if self.random.bool() { Some(self.random.i32(1..=2)) } else { None };
            }
            9 if self.climate.poison => {
                self.brokers.poison = self.brokers.poison.is_none().then_some(self.poison);
            }
            10 if self.climate.unclean => {
                let batches = 1 + self.random.usize(..2);
                let gone = self.brokers.elect_unclean(batches);
                let in_flight: Vec<u32> =
                    self.window.batches.iter().flat_map(|batch| numbers_of(&batch.bytes)).collect();
                gone.into_iter().chain(in_flight).for_each(|number| self.taken[number as usize] = true);
                self.zombies.clear();
                self.lose_connection(true)?;
            }
            11 if self.climate.kills => self.kill()?,
            _ => self.faults += 1,
        }
        Ok(())
    }

    /// All that was sent is settled; then comes a day without a record: brokers forget their producers, connections may be closed.
    fn pause(&mut self) -> Held {
        for _ in 0..200 {
            if self.window.next(self.now) != Next::New {
                self.send()?;
            }
            self.go_on()?;
        }
        if !self.window.batches.is_empty() {
            return Ok(());
        }
        self.now += HALF_EXPIRY * 2;
        self.zombies.clear();
        self.brokers.replicas.iter_mut().for_each(|replica| replica.known.clear());
        self.refuses_next = self.random.bool();
        if self.random.bool() { self.connect() } else { Ok(()) }
    }
}
