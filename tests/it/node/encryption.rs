//! Encryption between real clients over the node: conversation, cross-signing, key backup, a second device.

use std::{
    future::{Future, IntoFuture},
    sync::Arc,
    time::Duration,
};

use matrix_sdk::{
    Client, Room,
    config::RequestConfig,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        api::client::room::create_room::v3::Request as CreateRoom,
        events::{
            InitialStateEvent,
            room::{
                encryption::RoomEncryptionEventContent,
                message::{MessageType, OriginalSyncRoomMessageEvent, RoomMessageEventContent},
            },
        },
    },
};
use matrix_sdk_ui::sync_service::SyncService;
use tokio::sync::mpsc;

use crate::support::node::LocalNode;

const PASSWORD: &str = "correct horse battery";

/// A signed-in client that syncs, and the texts that it was able to read.
struct Someone {
    client: Client,
    sync: SyncService,
    read: mpsc::Receiver<String>,
}

async fn someone(node: &LocalNode, name: &str, device: &str) -> Someone {
    let settings = EncryptionSettings {
        auto_enable_cross_signing: false,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
        auto_enable_backups: false,
    };
    let client = Client::builder()
        .homeserver_url(node.url())
        .request_config(RequestConfig::new().disable_retry())
        .with_encryption_settings(settings)
        .build()
        .await
        .unwrap();
    client.matrix_auth().login_username(name, PASSWORD).initial_device_display_name(device).send().await.unwrap();
    let (send, read) = mpsc::channel(16);
    client.add_event_handler(move |event: OriginalSyncRoomMessageEvent| {
        let send = send.clone();
        async move {
            if let MessageType::Text(text) = event.content.msgtype {
                let _ = send.send(text.body).await;
            }
        }
    });
    let sync = SyncService::builder(client.clone()).build().await.unwrap();
    sync.start().await;
    Someone { client, sync, read }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.unwrap_or_else(|_| panic!("{what}: not within a minute"))
}

/// Waits for a text.
async fn reads(who: &mut Someone, text: &str) {
    within(text, async { while who.read.recv().await.as_deref() != Some(text) {} }).await;
}

/// Waits until the client has heard of the room's members, which is when it can encrypt for them.
async fn room_with(who: &Someone, room_id: &matrix_sdk::ruma::RoomId, members: u64) -> Room {
    let mut changes = who.client.subscribe_to_room_updates(room_id);
    within("the room", async {
        loop {
            if let Some(room) = who.client.get_room(room_id)
                && room.joined_members_count() >= members
                && room.latest_encryption_state().await.is_ok_and(|state| state.is_encrypted())
            {
                return room;
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), changes.recv()).await;
        }
    })
    .await
}

#[test]
fn two_people_talk_encrypted_and_a_new_device_reads_it_all_with_the_recovery_key() {
    let node = Arc::new(LocalNode::start());
    node.runtime().block_on(async {
        for name in ["ann", "ben"] {
            node.server().create_account(name, PASSWORD, false).await.unwrap();
        }
        let (mut ann, mut ben) = (someone(&node, "ann", "laptop").await, someone(&node, "ben", "phone").await);
        // The first keys of an account need no password.
        within("cross-signing", ann.client.encryption().bootstrap_cross_signing(None)).await.unwrap();

        let mut request = CreateRoom::new();
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        request.initial_state = vec![InitialStateEvent::with_empty_state_key(encryption).to_raw_any()];
        request.invite = vec![ben.client.user_id().unwrap().to_owned()];
        let room_id = ann.client.create_room(request).await.unwrap().room_id().to_owned();
        ben.client.join_room_by_id(&room_id).await.unwrap();

        let (of_ann, of_ben) = (room_with(&ann, &room_id, 2).await, room_with(&ben, &room_id, 2).await);
        of_ann.send(RoomMessageEventContent::text_plain("for your eyes only")).await.unwrap();
        reads(&mut ben, "for your eyes only").await;
        of_ben.send(RoomMessageEventContent::text_plain("understood")).await.unwrap();
        reads(&mut ann, "understood").await;

        let recovery = ann.client.encryption().recovery();
        let key = within("recovery", recovery.enable().wait_for_backups_to_upload().into_future()).await.unwrap();
        ann.sync.stop().await;

        let second = someone(&node, "ann", "tablet").await;
        within("recovering", second.client.encryption().recovery().recover(&key)).await.unwrap();
        let own = second.client.encryption().get_own_device().await.unwrap().unwrap();
        assert!(own.is_cross_signed_by_owner(), "the new device is signed by the recovered identity");
        let room = room_with(&second, &room_id, 2).await;
        within("download", second.client.encryption().backups().download_room_keys_for_room(&room_id)).await.unwrap();
        let history = room.messages(matrix_sdk::room::MessagesOptions::backward()).await.unwrap();
        let texts = history
            .chunk
            .iter()
            .filter_map(|event| event.raw().get_field::<serde_json::Value>("content").ok()??["body"].as_str().map(ToOwned::to_owned));
        assert_eq!(texts.collect::<Vec<_>>(), ["understood", "for your eyes only"]);
        second.sync.stop().await;
        ben.sync.stop().await;
    });
}
