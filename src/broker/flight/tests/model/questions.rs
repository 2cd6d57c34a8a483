//! What the window wants to find out: asked of the same brokers, a scan as slowly as anything else happens.

use super::*;

/// A scan that is under way: up to which batch, under which leader.
pub(super) struct Scan {
    number: u32,
    from: i64,
    sent: Vec<Attempt>,
    end: usize,
    leader_epoch: u32,
}

fn last_of(batch: &Batch) -> i32 {
    batch.attempt().end().wrapping_sub(1) & i32::MAX
}

impl World {
    pub(super) fn inquire(&mut self) -> Held {
        let (number, question) = self.window.inquire().ok_or("nothing to ask")?;
        let is_led_here = self.line.to == self.brokers.leader;
        let finding = match question {
            Question::ProducerId => return Err("out of epochs".into()),
            _ if self.climate.unreadable => Finding::Unknown,
            _ if !is_led_here => Finding::Failed,
            Question::LastSequence { acknowledged_end: Some(end), .. } if self.brokers.end() < end => Finding::Shrunk,
            Question::LastSequence { lane, .. } => {
                let last = self.brokers.last_sequence(lane);
                if self.without == Without::SuccessProves
                    && let Some(proven) = self.window.batches.iter().find(|b| Some(last_of(b)) == last)
                {
                    let attempt = proven.attempt();
                    let mut effects = vec![];
                    self.window.flight.as_mut().unwrap().inquiry = None;
                    self.window.succeeded(attempt, -1, self.now, &mut effects);
                    return self.carry_out(effects);
                }
                Finding::LastSequence(last)
            }
            Question::Scan { from, sent } => {
                let end = match self.without {
                    Without::ScanToTheLogsEnd => self.brokers.high_watermark(),
                    _ => self.brokers.replicas[self.brokers.leader].log.len(),
                };
                let (from, leader_epoch) = (from.unwrap_or(0), self.brokers.leader_epoch);
                self.scan = Some(Scan { number, from, sent, end, leader_epoch });
                return Ok(());
            }
        };
        self.act(|window, terms, effects| window.found(number, finding, terms, effects))
    }

    /// A scan has come to its end, or another leader refuses it.
    pub(super) fn go_on_scanning(&mut self) -> Held {
        let Some(scan) = &self.scan else { return Ok(()) };
        let is_refused = scan.leader_epoch != self.brokers.leader_epoch;
        if self.brokers.high_watermark() < scan.end && !is_refused {
            return Ok(());
        }
        let place = |sent: &Attempt| self.brokers.find(*sent, scan.from);
        let found = scan.sent.iter().filter_map(|sent| place(sent).map(|offset| (*sent, offset)));
        let finding = match found.max_by_key(|(sent, _)| sent.end()) {
            _ if is_refused => Finding::Failed,
            _ if self.brokers.end() < scan.from => Finding::Shrunk,
            Some((sent, offset)) => Finding::There(sent, offset),
            None => Finding::Absent,
        };
        let number = scan.number;
        self.scan = None;
        self.act(|window, terms, effects| window.found(number, finding, terms, effects))
    }
}
