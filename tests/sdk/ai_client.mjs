// SPDX-License-Identifier: Apache-2.0
// The ai package with @ai-sdk/openai and @ai-sdk/mistral as its documentation uses it. Arguments:
// address, key, model.
import { createMistral } from '@ai-sdk/mistral';
import { createOpenAI } from '@ai-sdk/openai';
import { embed, embedMany, generateText, streamText } from 'ai';
import { close, Features } from './features.mjs';

const STOP = 'assist'; // a word of the answer to prompt
const NO_CALL = 'the client has no such call';
const common = { prompt: 'Hi', maxOutputTokens: 24, maxRetries: 0 };

async function checkChat(chat, checks) {
  const asked = { ...common, model: chat, temperature: 0 };
  const answer = await generateText(asked);
  checks.true('chat', answer.text.includes(STOP));
  checks.equal('chat, finish', answer.finishReason, 'stop');
  checks.equal('usage', answer.usage.totalTokens,
    answer.usage.inputTokens + answer.usage.outputTokens);
  const stream = streamText(asked);
  let streamed = '';
  for await (const part of stream.textStream) streamed += part;
  checks.equal('stream', streamed, answer.text);
  checks.equal('usage, of a stream', (await stream.usage).totalTokens, answer.usage.totalTokens);
  const stopped = await generateText({ ...asked, stopSequences: [STOP] });
  checks.equal('stop', stopped.text, answer.text.split(STOP)[0]);
  const seeded = { ...common, model: chat, temperature: 1, seed: 5 };
  checks.equal('seed', (await generateText(seeded)).text, (await generateText(seeded)).text);
}

async function checkErrors(chat, checks) {
  const bad = await checks.raised('errors', () => generateText(
    { ...common, model: chat, temperature: 9 }));
  checks.equal('errors, a bad request', bad.statusCode, 400);
  checks.true('errors, its text', String(bad.message).includes('temperature'));
}

async function checkVectors(model, checks) {
  const vectors = (await embedMany({ model, values: ['a cat', 'a dog'] })).embeddings;
  checks.equal('embeddings', vectors.length, 2);
  checks.true('embeddings, they differ', !close(vectors[0], vectors[1]));
  checks.true('embeddings, alone the same',
    close((await embed({ model, value: 'a cat' })).embedding, vectors[0]));
}

async function checkOpenai(openai, model, checks) {
  const answer = await generateText({ ...common, model: openai.chat(model), temperature: 0,
    providerOptions: { openai: { logprobs: 3 } } });
  checks.equal('logprobs', answer.providerMetadata.openai.logprobs[0].top_logprobs.length, 3);
  const asked = { ...common, model: openai.responses(model), temperature: 0 };
  const response = await generateText(asked);
  checks.true('responses', response.text.includes(STOP));
  let streamed = '';
  for await (const part of streamText(asked).textStream) streamed += part;
  checks.equal('responses, streamed', streamed, response.text);
}

const [base, key, model] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: `${base}/v1`, apiKey: key });
const first = new Features('ai with @ai-sdk/openai (Node)');
first.cannot(NO_CALL, 'n', 'models', 'base64');
await first.run([checkChat, checkErrors], openai.chat(model));
await first.run([checkVectors], openai.embedding(model));
await first.run([checkOpenai], openai, model);
first.end();

const mistral = createMistral({ baseURL: `${base}/mistral/v1`, apiKey: key });
const second = new Features('ai with @ai-sdk/mistral (Node)');
second.cannot(NO_CALL, 'n', 'models', 'base64', 'logprobs', 'responses');
await second.run([checkChat, checkErrors], mistral(model));
await second.run([checkVectors], mistral.embedding(model));
second.end();
