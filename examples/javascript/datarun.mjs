// What a program needs to speak to datarun: sure publishing, questions, news of results.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import amqp from "amqplib";

const NAME = "javascript example"; // what RabbitMQ's console shows
const REPLY_TO = "amq.rabbitmq.reply-to"; // RabbitMQ's direct reply-to: no queue to declare

// The URL that DATARUN_BROKER names, else that of the nearest stack of `datarun up`.
export function brokerUrl() {
  if (process.env.DATARUN_BROKER) return process.env.DATARUN_BROKER;
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    const file = join(folder, ".datarun", "connection.toml");
    if (existsSync(file)) return /^broker = "(.*)"$/m.exec(readFileSync(file, "utf-8"))[1];
    if (folder === dirname(folder)) throw new Error("no stack here: run `datarun up`");
  }
}

export class Datarun {
  #url;
  #connection;
  #channel;
  #questions = new Map(); // correlationId -> what to do with the reply
  #returned = new Set(); // messageIds that no queue took

  constructor(url = brokerUrl()) {
    this.#url = url;
  }

  // Returns when RabbitMQ has the message. A confirm that does not come says nothing: the message
  // may be there or not. So it is published again with the same message_id; datarun counts it once.
  async publish(key, message, { type, messageId = randomUUID(), priority } = {}) {
    await this.#untilItSucceeds(async () => {
      const channel = await this.#open();
      await new Promise((resolve, reject) => {
        const silence = setTimeout(() => reject(new Error("no confirm")), 10_000);
        channel.publish(
          "datarun.work",
          key,
          Buffer.from(JSON.stringify(message)),
          {
            messageId,
            type,
            priority,
            persistent: true,
            mandatory: true,
            contentType: "application/json",
            appId: NAME,
          },
          (error) => {
            clearTimeout(silence);
            error ? reject(error) : resolve();
          },
        );
      });
    });
    // What is returned is confirmed, too, afterwards.
    if (this.#returned.delete(messageId)) throw new Refused(`no queue takes messages with key ${key}`);
    return messageId;
  }

  // Asks the collector. Questions go the way that messages go: he knows all that was published before.
  async ask(type, question, key = "request") {
    return this.#untilItSucceeds(async () => {
      const channel = await this.#open();
      const correlationId = randomUUID();
      const answer = new Promise((resolve, reject) => {
        const silence = setTimeout(() => reject(new Error("no reply")), 10_000);
        this.#questions.set(correlationId, (message) => {
          clearTimeout(silence);
          message ? resolve(message) : reject(new Error("connection lost"));
        });
      });
      const body = Buffer.from(JSON.stringify(question));
      const properties = { type, correlationId, replyTo: REPLY_TO, expiration: "10000" };
      channel.publish("datarun.work", key, body, properties);
      const message = await answer;
      const content = JSON.parse(message.content);
      if (message.properties.type !== "datarun.error-reply.v1") return content;
      if (content.temporary) throw new Error(content.message); // its database is away: again
      throw new Refused(content.message);
    });
  }

  // Calls `told` with each result that is stored from now on, and its routing key; with null when the
  // connection was lost and has come back: what was stored meanwhile has to be asked for.
  // `keys`: fold.<data set>.<fold id> and data.<name>; `*` stands for any.
  async follow(keys, told) {
    let channel;
    let stopped = false;
    const subscribe = async () => {
      channel = await (await this.#connected()).createChannel();
      channel.on("error", () => {}); // "close" follows
      channel.on("close", async () => {
        if (stopped) return;
        await this.#untilItSucceeds(subscribe);
        told(null);
      });
      const { queue } = await channel.assertQueue("", { exclusive: true, durable: false });
      for (const key of keys) await channel.bindQueue(queue, "datarun.results", key);
      await channel.consume(queue, (message) => {
        if (message === null) return;
        told(JSON.parse(message.content), message.fields.routingKey);
        channel.ack(message);
      });
    };
    await this.#untilItSucceeds(subscribe);
    return async () => {
      stopped = true;
      await channel.close();
    };
  }

  async close() {
    await (await this.#connection)?.close();
  }

  // One channel for all, opened again when it was lost.
  #open() {
    this.#channel ??= this.#openChannel().catch((error) => {
      this.#channel = undefined;
      throw error;
    });
    return this.#channel;
  }

  async #openChannel() {
    const channel = await (await this.#connected()).createConfirmChannel();
    channel.on("error", () => {}); // "close" follows
    channel.on("close", () => {
      this.#channel = undefined;
      for (const settle of this.#questions.values()) settle(null);
      this.#questions.clear();
    });
    channel.on("return", (message) => this.#returned.add(message.properties.messageId));
    const take = (message) => {
      const settle = this.#questions.get(message?.properties.correlationId);
      this.#questions.delete(message?.properties.correlationId);
      settle?.(message);
    };
    // Replies are consumed on the channel by which questions go.
    await channel.consume(REPLY_TO, take, { noAck: true });
    return channel;
  }

  #connected() {
    this.#connection ??= this.#connect().catch((error) => {
      this.#connection = undefined;
      throw error;
    });
    return this.#connection;
  }

  async #connect() {
    const clientProperties = { connection_name: NAME };
    const options = { heartbeat: 30, timeout: 10_000, clientProperties };
    const connection = await amqp.connect(this.#url, options);
    connection.on("error", () => {}); // "close" follows
    connection.on("close", () => (this.#connection = undefined));
    return connection;
  }

  // Tries for a minute: connections are lost, and come back.
  async #untilItSucceeds(attempt) {
    const deadline = Date.now() + 60_000;
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (error instanceof Refused || Date.now() > deadline) throw error;
        await pause(500);
      }
    }
  }
}

export class Refused extends Error {} // trying again does not help
