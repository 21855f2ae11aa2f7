// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker must make no system call that blocks on what a client holds.

use super::Subject;
use super::part::{How, Part, What};
use super::scene::Scene;
use crate::cases;

cases! { Subject;
    splice_holds_the_signal,
    splice_holds_the_signal_of_a_closed_connection,
    sent_pipe_with_a_valid_packet,
    sent_pipe_with_an_invalid_packet,
    sent_pipe_in_a_packet_that_is_not_read,
    sent_pipe_in_a_connection_that_is_not_accepted,
    sent_pipe_before_many_connections,
    sent_pipes_in_a_long_queue_of_a_broker_that_ends,
    sent_socket_with_a_valid_packet,
    sent_socket_with_an_invalid_packet,
    sent_socket_in_a_packet_that_is_not_read,
    sent_socket_in_a_connection_that_is_not_accepted,
    sent_file_with_a_valid_packet,
    sent_file_with_an_invalid_packet,
    sent_file_in_a_packet_that_is_not_read,
    sent_file_in_a_connection_that_is_not_accepted,
}

/// A client that splices from a pipe to a full socket holds the pipe's mutex for as long as it
/// likes. A broker that writes to the pipe waits for the mutex, and no signal ends that wait.
fn splice_holds_the_signal(subject: &Subject) {
    let scene = Scene::start(subject);
    let mut attacker = scene.attack(Part::Splice);
    scene.trigger();
    attacker.go_on("");
    println!("# {}", attacker.said());
    scene.expect_service();
    scene.finish_during([attacker]);
}

/// Closing a pipe takes the same mutex.
fn splice_holds_the_signal_of_a_closed_connection(subject: &Subject) {
    let scene = Scene::start(subject);
    let mut attacker = scene.attack(Part::Splice);
    scene.trigger();
    attacker.go_on("");
    attacker.go_on("");
    scene.expect_service();
    scene.finish_during([attacker]);
}

fn sent_pipe_with_a_valid_packet(subject: &Subject) {
    expect_release(subject, What::Pipe, How::Valid);
}

fn sent_pipe_with_an_invalid_packet(subject: &Subject) {
    expect_release(subject, What::Pipe, How::Invalid);
}

fn sent_pipe_in_a_packet_that_is_not_read(subject: &Subject) {
    expect_release(subject, What::Pipe, How::Unread);
}

fn sent_pipe_in_a_connection_that_is_not_accepted(subject: &Subject) {
    expect_release(subject, What::Pipe, How::Unaccepted);
}

/// Connections that have nothing in them must not wait for one that has.
fn sent_pipe_before_many_connections(subject: &Subject) {
    expect_release(subject, What::Pipe, How::Followed);
}

/// A broker that ends cannot accept everything that is queued, and closing its listening socket
/// releases the rest.
fn sent_pipes_in_a_long_queue_of_a_broker_that_ends(subject: &Subject) {
    let scene = Scene::start(subject);
    let mut attacker = scene.attack_by_sending(What::Pipe, How::Queued);
    scene.stop();
    attacker.go_on("");
    println!("# {}", attacker.said());
    scene.finish_during([attacker]);
}

fn sent_socket_with_a_valid_packet(subject: &Subject) {
    expect_release(subject, What::Socket, How::Valid);
}

fn sent_socket_with_an_invalid_packet(subject: &Subject) {
    expect_release(subject, What::Socket, How::Invalid);
}

fn sent_socket_in_a_packet_that_is_not_read(subject: &Subject) {
    expect_release(subject, What::Socket, How::Unread);
}

fn sent_socket_in_a_connection_that_is_not_accepted(subject: &Subject) {
    expect_release(subject, What::Socket, How::Unaccepted);
}

fn sent_file_with_a_valid_packet(subject: &Subject) {
    expect_release(subject, What::File, How::Valid);
}

fn sent_file_with_an_invalid_packet(subject: &Subject) {
    expect_release(subject, What::File, How::Invalid);
}

fn sent_file_in_a_packet_that_is_not_read(subject: &Subject) {
    expect_release(subject, What::File, How::Unread);
}

fn sent_file_in_a_connection_that_is_not_accepted(subject: &Subject) {
    expect_release(subject, What::File, How::Unaccepted);
}

/// The process that receives a packet without taking its descriptors releases them, and so does one
/// that closes a socket with unread packets. On kernels since 6.16 the broker can refuse
/// descriptors; then the attacker cannot send them. On earlier ones a thread of the broker may wait
/// for the attacker, and the directory must be free without that thread.
fn expect_release(subject: &Subject, what: What, how: How) {
    let scene = Scene::start(subject);
    let mut attacker = scene.attack_by_sending(what, how);
    // While the broker is stopped, the attacker cannot be the last to release the descriptor, and
    // no packet comes too late.
    scene.stop();
    attacker.go_on("");
    scene.go_on();
    let (_, took) = scene.trigger();
    println!(
        "# {}; the broker answered its owner within {took:?}",
        attacker.said()
    );
    scene.expect_service();
    scene.finish_during([attacker]);
}
