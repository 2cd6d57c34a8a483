//! What a world is like, and which rule is taken away in it.

/// What can happen beside lost connections, ambiguous answers, leaders that change and brokers that restart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Climate {
    /// `max.message.bytes` goes down and up.
    pub limits: bool,
    /// One record is refused for what it is, now and then.
    pub poison: bool,
    /// There are stretches of old records, and brokers forget a producer whose last batch is old.
    pub old: bool,
    /// Old and fresh records stand in one batch, too.
    pub mixed: bool,
    /// The topic may not be read: nothing is found out.
    pub unreadable: bool,
    /// A leader is elected that has not all that was acknowledged.
    pub unclean: bool,
    /// The daemon is killed and started again; of what it noted in its log, any suffix that is not on disk is lost.
    pub kills: bool,
}

/// A rule taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    FirstFlightAlone,
    FirstFlightAlonePerLane,
    OldestFirst,
    /// 3, 6 and 56 are taken as "not appended".
    DoubtWhenTheLeaderMoved,
    /// Error 45 on the oldest is answered with a new epoch.
    Probes,
    /// Old batches under the id of the others.
    IdOfTheOld,
    /// What is in doubt is sent again under a new epoch.
    SameLaneAgain,
    /// What is cut gets a new epoch at once.
    SplitsKeepNumbers,
    /// A batch with an old record in it is cut in its lane like any other.
    MixedAreNotSplit,
    /// The last sequence number that the leader knows is taken for the proof.
    SuccessProves,
    /// Scans go to the high watermark.
    ScanToTheLogsEnd,
    /// Old batches in doubt are counted only when they cannot be looked for.
    OldOnLostConnectionsAreCounted,
    /// What is in doubt and refused is given up at once, and not counted.
    SettledBeforeGivenUp,
    /// Batches leave before their note is on disk.
    SentIsNotedFirst,
    /// Pieces of a batch leave without a note of their own.
    PiecesAreNoted,
    /// What an earlier start has left in doubt goes under this start's producer ids.
    InheritedKeepsItsLane,
    /// What is to prove what an earlier start has left goes under this start's producer ids.
    FollowersKeepTheLane,
    /// A dead letter leaves the numbers behind it as they were sent.
    DeadLettersEndTheLane,
    /// After a dead letter a later start goes on under its own producer ids.
    EndedLanesAreFenced,
    /// A later start does not know what was counted.
    CountsSurvive,
}
