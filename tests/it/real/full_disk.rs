//! The real server cannot write: its disk is full or read-only. It is a small file system of its own.

use super::*;

/// A file system in memory, which is taken away when this is dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`, said loudly, where this process may not mount, as in many containers.
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(&at)
            .output()
            .expect("mount is there");
        if mount.status.success() {
            return Some(Self(at));
        }
        let why = String::from_utf8_lossy(&mount.stderr);
        println!("************ SKIPPED: a full disk needs `mount`: {why} ************");
        None
    }

    /// Leaves so many bytes free.
    fn fill(&self, free: usize) {
        use std::io::Write as _;

        let mut filler = std::fs::File::create(self.0.join("filler")).unwrap();
        while filler.write_all(&[7; 4096]).is_ok() {}
        let len = filler.metadata().unwrap().len();
        filler.set_len(len - free as u64).unwrap();
    }

    fn remount(&self, how: &str) {
        let mount = std::process::Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(mount.success());
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What has files open there may be ending just now.
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .status();
    }
}

/// Pushes while `begin` keeps the server from writing, and again after `end`.
async fn pushes_through(name: &str, says: &str, begin: fn(&Disk), end: fn(&Disk)) {
    const THERE: usize = 20;
    let folder = folder(name);
    let _ = std::fs::remove_dir_all(&folder);
    let Some(disk) = Disk::mount(folder.join("store")) else {
        return;
    };
    let server = Server::start_in(folder, &[]).await;
    let client = server.client().await;
    let first = soon(records(THERE).push_to(&client).finish()).await;
    assert_eq!(first.stats.failed, 0, "{first}");

    begin(&disk);
    // The server says of the first ones that it has them, as it does while it cannot write.
    let mut results = records(COUNT).push_to(&client);
    let handle = results.handle();
    let mut seen = Vec::new();
    let fault = async {
        while !handle
            .last_fault()
            .is_some_and(|fault| fault.contains(says))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    let read = async {
        while let Some(result) = results.next().await {
            seen.push(result);
        }
    };
    tokio::select! {
        () = read => panic!("all have a result, while none can be written: {}", handle.stats()),
        () = soon(fault) => {}
    }
    let stats = handle.stats();
    print(name, &stats);
    assert_eq!(stats.failed, 0, "no record is at fault: {stats}");
    assert!(stats.calls < 400, "it waits between its calls: {stats}");
    all_there(&client, seen.len()).await;

    end(&disk);
    while let Some(result) = soon(results.next()).await {
        seen.push(result);
    }
    print(name, &handle.stats());
    assert_eq!(seen.len(), COUNT);
    let mut torn = 0;
    for (number, result) in seen.into_iter().enumerate() {
        match result {
            Ok(pushed) => assert_eq!(pushed.cid, cid(&record(number))),
            // The server has written one half of it, and neither finds it nor takes it until it is deleted.
            Err(failed) => {
                assert!(failed.to_string().ends_with("already exists"), "{failed}");
                let cid = cid(&record(number));
                let found = soon(client.lookup(cid)).await;
                assert_eq!(found.unwrap_err().kind(), ErrorKind::NotFound);
                soon(client.delete(cid)).await.unwrap();
                soon(client.push(record(number))).await.unwrap();
                torn += 1;
            }
        }
    }
    println!("{name}: {torn} torn by the server");
    assert!(torn <= 3, "there was room for no more halves");
    all_there(&client, COUNT).await;
}

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_server_whose_disk_is_full_for_a_while_refuses_no_record() {
    let fill = |disk: &Disk| disk.fill(400 << 10);
    pushes_through(
        "full-disk",
        "no space left on device",
        fill,
        Disk::make_room,
    )
    .await;
}

#[tokio::test]
#[ignore = "needs the real server: run `tests/interop/run server`"]
async fn a_server_whose_disk_is_read_only_for_a_while_refuses_no_record() {
    let (begin, end) = (
        |disk: &Disk| disk.remount("ro"),
        |disk: &Disk| disk.remount("rw"),
    );
    pushes_through("read-only-disk", "read-only file system", begin, end).await;
}
