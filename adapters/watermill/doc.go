// Package watermill lets Watermill (github.com/ThreeDotsLabs/watermill) publish to, and subscribe from, a Braid broker in the same process: durable, with
// consumer groups, without a server.
//
// A Watermill topic is a Braid topic; it is created when it is first used. A message's UUID and metadata travel as headers, its payload as the value, and its key, which
// PublisherConfig.Key finds, decides the order: messages of one key are delivered in the order of their publishing, one after the other.
//
// Delivery is at least once: a message that was not acknowledged when the subscriber closed, or when the process was killed, comes again, and so may some that
// were acknowledged in the last tenth of a second before a kill.
package watermill
