//! The embedded store keeps referrers: its settings, and its faults.

use agntcy_dir_stream::server::{AlreadyStored, Fault, Method, Serving, Store};
use agntcy_dir_stream::{Cid, Code, Status};

use crate::support::foreign::{ForeignClient, assert_status};
use crate::support::messages::RecordRef;
use crate::support::records::record;
use crate::support::referrers::{
    DeleteReferrer, DeletedReferrers, PullReferrer, PulledReferrer, PushReferrer, PushedReferrer,
};

struct Setup {
    store: Store,
    foreign: ForeignClient,
    _serving: Serving,
    record: Cid,
}

impl Setup {
    async fn of(store: Store) -> Self {
        let record = store.insert(record(0)).unwrap();
        let (foreign, serving) = ForeignClient::of(&store).await;
        Self {
            store,
            foreign,
            _serving: serving,
            record,
        }
    }

    fn signature(&self, number: usize) -> PushReferrer {
        PushReferrer::signature(self.record, number)
    }

    fn cid(&self, number: usize) -> String {
        self.signature(number).cid()
    }

    /// The CID of each answer to a push of these, and how the call ended.
    async fn push(&self, numbers: &[usize]) -> (Vec<String>, Result<(), Status>) {
        let requests = numbers.iter().map(|number| self.signature(*number));
        let call = self.foreign.call(Method::PushReferrer, requests.collect());
        let (answers, end): (Vec<PushedReferrer>, _) = call.await;
        let cid = |answer: PushedReferrer| answer.referrer.unwrap_or_default().cid;
        (answers.into_iter().map(cid).collect(), end)
    }

    /// The CIDs of what refers to the record.
    async fn pull(&self) -> Vec<String> {
        let all = PullReferrer {
            record: Some(RecordRef::new(self.record)),
            ..PullReferrer::default()
        };
        let call = self.foreign.call(Method::PullReferrer, vec![all]);
        let (answers, end): (Vec<PulledReferrer>, _) = call.await;
        end.unwrap();
        let referrers = answers.into_iter().filter_map(|answer| answer.referrer);
        referrers.map(|one| one.referrer.unwrap().cid).collect()
    }

    /// The CIDs of what is deleted.
    async fn delete(&self) -> Vec<String> {
        let all = DeleteReferrer {
            record: Some(RecordRef::new(self.record)),
            ..DeleteReferrer::default()
        };
        let call = self.foreign.call(Method::DeleteReferrer, vec![all]);
        let (answers, end): (Vec<DeletedReferrers>, _) = call.await;
        end.unwrap();
        let referrers = answers.into_iter().flat_map(|answer| answer.referrers);
        referrers.map(|one| one.cid).collect()
    }
}

#[tokio::test]
async fn a_stored_referrer_can_be_answered_with_its_cid() {
    let builder = Store::builder().already_stored(AlreadyStored::Ref);
    let setup = Setup::of(builder.build()).await;
    let (answers, end) = setup.push(&[1, 1]).await;
    end.unwrap();
    assert_eq!(answers, [setup.cid(1), setup.cid(1)]);
    assert_eq!(setup.pull().await, [setup.cid(1)]);
}

#[tokio::test]
async fn referrers_come_in_the_order_they_were_pushed() {
    let setup = Setup::of(Store::new()).await;
    setup.push(&[3, 1, 2]).await.1.unwrap();
    assert_eq!(
        setup.pull().await,
        [3, 1, 2].map(|number| setup.cid(number))
    );
}

#[tokio::test]
async fn a_store_that_is_cleared_has_no_referrers() {
    let setup = Setup::of(Store::new()).await;
    setup.push(&[1]).await.1.unwrap();
    setup.store.clear();
    setup.store.insert(record(0)).unwrap();
    assert_eq!(setup.pull().await, [""; 0]);
    assert_eq!(setup.push(&[1]).await.0, [setup.cid(1)]);
}

#[tokio::test]
async fn a_wrong_answer_names_another_referrer() {
    let setup = Setup::of(Store::new()).await;
    let wrong = |method| setup.store.inject(Fault::wrong_answer().on(method).at(0));
    wrong(Method::PushReferrer);
    let (answers, end) = setup.push(&[1, 2]).await;
    end.unwrap();
    assert!(
        answers[0].parse::<Cid>().is_ok() && answers[0] != setup.cid(1),
        "{answers:?}"
    );
    assert_eq!(answers[1], setup.cid(2));

    wrong(Method::PullReferrer);
    assert_eq!(setup.pull().await, [setup.cid(2), setup.cid(1)]);
    assert_eq!(setup.pull().await, [setup.cid(1), setup.cid(2)]);

    wrong(Method::DeleteReferrer);
    let deleted = setup.delete().await;
    assert!(
        deleted[0] != setup.cid(1) && deleted[1] != setup.cid(2),
        "{deleted:?}"
    );
    assert_eq!(setup.pull().await, [""; 0], "they are deleted all the same");
}

#[tokio::test]
async fn a_spare_answer_comes_twice() {
    let setup = Setup::of(Store::new()).await;
    let spare = |method| setup.store.inject(Fault::spare_answer().on(method).at(0));
    spare(Method::PushReferrer);
    let [one, two] = [1, 2].map(|number| setup.cid(number));
    let (answers, end) = setup.push(&[1, 2]).await;
    end.unwrap();
    assert_eq!(answers, [&*one, &*one, &*two]);
    spare(Method::PullReferrer);
    assert_eq!(setup.pull().await, [&*one, &*one, &*two, &*two]);
    spare(Method::DeleteReferrer);
    assert_eq!(setup.delete().await, [&*one, &*two, &*one, &*two]);
}

#[tokio::test]
async fn faults_happen_to_referrers_too() {
    let setup = Setup::of(Store::new()).await;
    let fault = Fault::status(Status::unavailable("later"));
    setup
        .store
        .inject(fault.on(Method::PushReferrer).of(setup.record).at(1));
    let (answers, end) = setup.push(&[1, 2]).await;
    assert_status("the fault", end, Code::Unavailable, "later");
    assert_eq!(answers, [setup.cid(1)]);

    let fault = Fault::cut_after();
    setup.store.inject(fault.on(Method::PushReferrer).at(1));
    let (answers, end) = setup.push(&[2, 3, 4]).await;
    assert!(std::error::Error::source(&end.unwrap_err()).is_some());
    assert!(answers.len() <= 1);
    assert_eq!(
        setup.pull().await,
        [1, 2, 3].map(|number| setup.cid(number))
    );

    setup.store.inject(Fault::end().on(Method::PullReferrer));
    assert_eq!(setup.pull().await, [""; 0]);
    assert_eq!(format!("{:?}", setup.store.pending_faults()), "[]");
}
