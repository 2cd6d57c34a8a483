use super::*;

#[test]
fn what_is_synced_survives_a_power_loss_and_what_is_not_may_not() {
    let mut lost = 0;
    for seed in 0..50 {
        let storage = SimulatedStorage::new(seed);
        let file = storage.create("a").unwrap();
        file.write_at(b"synced", 0).unwrap();
        file.sync().unwrap();
        storage.sync_directory("").unwrap();
        file.write_at(b"not synced", 6).unwrap();
        storage.create("b").unwrap();
        storage.lose_power();
        let files = storage.files();
        assert!(files["a"].starts_with(b"synced"), "seed {seed}");
        assert_eq!(file.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(Errno::EBADF as i32));
        lost += usize::from(files["a"] != b"syncednot synced") + usize::from(!files.contains_key("b"));
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn a_failed_sync_makes_the_next_one_a_lie() {
    let mut lies = 0;
    for seed in 0..50 {
        let storage = SimulatedStorage::new(seed);
        let file = storage.create("a").unwrap();
        storage.sync_directory("").unwrap();
        file.write_at(b"never durable", 0).unwrap();
        storage.fail(Some(Fault { after: 0, times: 1, errno: Errno::EIO }));
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        file.sync().unwrap();
        assert_eq!(storage.files()["a"], b"never durable", "it can still be read");
        storage.lose_power();
        lies += usize::from(storage.files()["a"] != b"never durable");
    }
    assert!(lies > 10, "{lies}");
}

#[test]
fn the_disk_fills_up_and_a_second_owner_is_refused_until_the_first_is_killed() {
    let storage = SimulatedStorage::new(1);
    let _lock = storage.lock().unwrap();
    assert!(matches!(storage.lock(), Err(LockError::Held { .. })));
    storage.kill();
    let _second = storage.lock().unwrap();
    storage.set_capacity(10);
    let file = storage.create("a").unwrap();
    file.write_at(&[1; 10], 0).unwrap();
    assert_eq!(file.write_at(&[1; 1], 10).unwrap_err().raw_os_error(), Some(Errno::ENOSPC as i32));
    storage.remove("a").unwrap();
    assert_eq!(storage.available_bytes().unwrap(), 10);
}
