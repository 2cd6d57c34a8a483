use proptest::prelude::*;

use super::*;

const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn text(bytes: usize) -> Vec<u8> {
    b"level=info path=/api/items status=200 ".iter().copied().cycle().take(bytes).collect()
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()
}

impl Compressor {
    /// What comes out, whether it pays or not.
    fn pack(&mut self, codec: Codec, level: Option<i32>, raw: &[u8]) -> Vec<u8> {
        self.compress(codec, level, raw).unwrap();
        self.output.clone()
    }
}

fn pack(codec: Codec, raw: &[u8]) -> Vec<u8> {
    Compressor::default().pack(codec, None, raw)
}

#[test]
fn one_compressor_gives_back_what_went_in_at_every_level() {
    let mut compressor = Compressor::default();
    let levels: Vec<(Codec, Option<i32>)> = CODECS
        .map(|codec| (codec, None))
        .into_iter()
        .chain((1..=9).map(|level| (Codec::Gzip, Some(level))))
        .chain((1..=17).map(|level| (Codec::Lz4, Some(level))))
        .chain([-131_072, -5, 0, 1, 3, 19, 22, 1].map(|level| (Codec::Zstd, Some(level))))
        .collect();
    for raw in [text(100_000), [text(70_000), noise(70_000)].concat()] {
        for (codec, level) in &levels {
            let packed = compressor.pack(*codec, *level, &raw);
            assert!(decompress(*codec, &packed, raw.len()) == Ok(raw.clone()), "{codec:?} {level:?}");
        }
    }
}

#[test]
fn a_higher_level_makes_less_of_the_same() {
    let raw: Vec<u8> =
        (0..20_000_u32).flat_map(|n| format!("{} {}\n", n, n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
    let mut compressor = Compressor::default();
    for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Lz4, 1, 12), (Codec::Zstd, -20, 19)] {
        let [low, high] = [low, high].map(|level| compressor.pack(codec, Some(level), &raw).len());
        assert!(high < low, "{codec:?}: {high} < {low}");
    }
}

#[test]
fn a_level_beyond_the_range_counts_as_the_nearest() {
    let (mut compressor, raw) = (Compressor::default(), text(50_000));
    for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Lz4, 1, 17), (Codec::Zstd, -131_072, 22)] {
        for (beyond, nearest) in [(i32::MIN, low), (i32::MAX, high)] {
            let [beyond, nearest] = [beyond, nearest].map(|level| compressor.pack(codec, Some(level), &raw));
            assert!(beyond == nearest, "{codec:?}");
        }
    }
}

#[test]
fn what_hardly_shrinks_is_left_as_it_is() {
    let mut compressor = Compressor::default();
    for codec in CODECS {
        assert_eq!(compressor.compress(codec, None, &noise(50_000)), Ok(None));
        let mixed = [noise(95_000), text(5_000)].concat();
        assert_eq!(compressor.compress(codec, None, &mixed), Ok(None));
        let mixed = [noise(80_000), text(20_000)].concat();
        assert!(compressor.compress(codec, None, &mixed).unwrap().is_some());
        assert_eq!(compressor.compress(codec, None, b""), Ok(None));
    }
}

#[test]
fn more_than_the_limit_is_refused_and_exactly_the_limit_is_not() {
    for raw in [text(100_000), noise(100_000)] {
        for codec in CODECS {
            let packed = pack(codec, &raw);
            assert_eq!(decompress(codec, &packed, 99_999), Err(WireError::TooLarge { limit: 99_999 }));
            assert!(decompress(codec, &packed, 100_000) == Ok(raw.clone()));
        }
        assert_eq!(decompress(Codec::None, &raw, 99_999), Err(WireError::TooLarge { limit: 99_999 }));
        assert!(decompress(Codec::None, &raw, 100_000) == Ok(raw));
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let raw = vec![0; 32 << 20];
    for codec in CODECS {
        let packed = pack(codec, &raw);
        assert_eq!(decompress(codec, &packed, 1 << 16), Err(WireError::TooLarge { limit: 1 << 16 }));
    }
}

#[test]
fn a_large_output_buffer_is_not_kept() {
    let mut compressor = Compressor::default();
    compressor.compress(Codec::Zstd, None, &text(3 << 20)).unwrap();
    compressor.trim();
    assert_eq!(compressor.output.capacity(), 0);
}

#[test]
fn nothing_is_not_the_compressed_form_of_anything() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4] {
        assert!(decompress(codec, b"", 10).is_err(), "{codec:?}");
    }
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(CODECS.to_vec())
}

/// Runs of one byte and noise by turns, from nothing to a few blocks of every codec.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let part = (prop_oneof![8 => 0..300_usize, 1 => 0..100_000_usize], any::<u8>(), any::<bool>());
    prop::collection::vec(part, 0..6).prop_map(|parts| {
        let part = |(length, fill, is_noise)| if is_noise { noise(length) } else { vec![fill; length] };
        parts.into_iter().flat_map(part).collect()
    })
}

/// How a stream of the codec begins.
fn magic(codec: Codec) -> Vec<u8> {
    let mut start = pack(codec, b"a");
    start.truncate(if codec == Codec::Snappy { 16 } else { 7 });
    start
}

proptest! {
    #[test]
    fn any_contents_come_back(codec in codec(), contents in prop::collection::vec(contents(), 1..3)) {
        let mut compressor = Compressor::default();
        for raw in contents {
            let packed = compressor.pack(codec, None, &raw);
            prop_assert!(decompress(codec, &packed, raw.len()) == Ok(raw));
        }
    }

    #[test]
    fn any_bytes_are_unpacked_within_the_limit_or_refused(codec in codec(), begins_right: bool, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = if begins_right { [magic(codec), bytes].concat() } else { bytes };
        if let Ok(out) = decompress(codec, &bytes, 1000) {
            prop_assert!(out.len() <= 1000);
        }
    }

    #[test]
    fn what_is_cut_short_is_refused(codec in codec(), raw in contents(), cut in any::<prop::sample::Index>()) {
        let packed = pack(codec, &raw);
        let cut = &packed[..cut.index(packed.len())];
        match decompress(codec, cut, raw.len()) {
            Err(error) => prop_assert!(matches!(error, WireError::Codec { .. }), "{}", error),
            // xerial's framing has no end, and nothing at all is no zstd frame: what is missing shows in the records.
            Ok(out) if codec == Codec::Snappy => prop_assert!(out.len() < raw.len().max(1) && raw.starts_with(&out)),
            Ok(out) => prop_assert!(codec == Codec::Zstd && cut.is_empty() && out.is_empty()),
        }
    }

    #[test]
    fn what_is_damaged_is_unpacked_within_the_limit_or_refused(
        codec in codec(),
        raw in contents(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut packed = pack(codec, &raw);
        for (at, to) in changes {
            let at = at.index(packed.len());
            packed[at] = to;
        }
        if let Ok(out) = decompress(codec, &packed, raw.len() + 10) {
            prop_assert!(out.len() <= raw.len() + 10);
            // gzip sums what it holds.
            prop_assert!(codec != Codec::Gzip || out == raw);
        }
    }
}
