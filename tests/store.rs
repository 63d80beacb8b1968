//! Every store keeps the contract of the trait.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use millstream::{
    Timestamp,
    store::{Class, Memory, Op, PartitionId, Record, Redb, Seq, Store, Table, Wanted},
};

fn record(text: &str) -> Record {
    Record { name: "note".into(), time: Timestamp::EPOCH, bytes: text.to_owned().into(), keys: Vec::new() }
}

async fn smoke(store: &dyn Store) {
    let home = PartitionId(0);
    for i in 0..100 {
        let records = vec![record(&format!("{i}-{}", "x".repeat(1000)))];
        store.append(home, vec![Op::Append { class: Class(1), records }]).await.unwrap();
    }
    let mut claim = store.claim(home).await.unwrap();
    assert_eq!(claim.end, Seq(100));
    let put = Op::Put { table: Table("t"), key: "k".into(), value: "v".into() };
    claim.partition.commit(vec![put.clone()]).await.unwrap();
    let got = claim.partition.get(Table("t"), &["k".into(), "l".into()]).await.unwrap();
    assert_eq!(got, [Some("v".into()), None]);
    let (mut from, mut seen) = (Seq(0), Vec::new());
    loop {
        let page = claim.partition.read(Class(1), from, 5_000, &Wanted::default()).await.unwrap();
        seen.extend(page.records);
        from = page.next;
        if page.is_end {
            break;
        }
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.iter().enumerate().all(|(i, r)| r.bytes.starts_with(format!("{i}-").as_bytes())));
}

#[tokio::test]
async fn smoke_all() {
    smoke(&Memory::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.redb");
    smoke(&Redb::open(&path).unwrap()).await;
    let again = Redb::open(&path).unwrap();
    assert_eq!(again.claim(PartitionId(0)).await.unwrap().end, Seq(100));
}
