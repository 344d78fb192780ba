// SPDX-License-Identifier: Apache-2.0
// Nodes, their users and their age. A node without users has no descendant with users, because
// whoever uses a page uses all pages before it.
#include "engine/prefix_tree.h"

#include "base/error.h"

namespace etalon::engine {

class PrefixTree::Node {
  public:
    Node* parent = nullptr;
    const Partition* partition = nullptr;  // the key in roots_
    Children children;
    Children::const_iterator self;  // in the parent's children
    std::int32_t page = -1;
    int users = 0;
    std::uint64_t last_used = 0;
};

PrefixTree::PrefixTree(PagePool& pool) : pool_(&pool) {}

PrefixTree::~PrefixTree() {
    // One by one: a tree may be as deep as a context has pages, too deep for nested destructors.
    while (evict()) {
    }
    ETALON_ASSERT(n_pages_ == 0);
}

std::int32_t PrefixTree::page_of(const Node& node) noexcept {
    return node.page;
}

int PrefixTree::n_single_user(const Node* node) noexcept {
    int n = 0;
    for (; node != nullptr && node->users == 1; node = node->parent)
        ++n;
    return n;
}

PrefixTree::Children& PrefixTree::children_of(const Partition& partition, Node* parent) {
    if (parent == nullptr) return roots_[partition];
    ETALON_ASSERT(parent->users > 0);
    ETALON_ASSERT(*parent->partition == partition);
    return parent->children;
}

PrefixTree::Node* PrefixTree::attach(const Partition& partition, Node* parent,
                                     const PageTokens& tokens) {
    if (parent == nullptr && roots_.find(partition) == roots_.end()) return nullptr;
    const Children& children = children_of(partition, parent);
    const auto found = children.find(tokens);
    if (found == children.end()) return nullptr;
    add_user(*found->second);
    return found->second.get();
}

PrefixTree::Node* PrefixTree::publish(const Partition& partition, Node* parent,
                                      const PageTokens& tokens, std::int32_t page) {
    const auto [place, is_new] =
        children_of(partition, parent).try_emplace(tokens, std::make_unique<Node>());
    Node& node = *place->second;
    if (is_new) {
        node.parent = parent;
        node.partition = &roots_.find(partition)->first;
        node.self = place;
        node.page = page;
        ++n_pages_;
        ++n_unused_;  // until it has its first user, below
    }
    add_user(node);
    return &node;
}

void PrefixTree::add_user(Node& node) {
    if (node.users == 0) {
        by_age_.erase(node.last_used);  // a leaf is there, another node is not
        --n_unused_;
    }
    ++node.users;
}

void PrefixTree::touch(Node& node) {
    node.last_used = ++clock_;
    if (node.children.empty()) by_age_.emplace(node.last_used, &node);
}

void PrefixTree::detach(Node* node) {
    while (node != nullptr) {
        Node* const parent = node->parent;
        ETALON_ASSERT(node->users > 0);
        if (--node->users == 0) {
            ++n_unused_;
            touch(*node);
            // A leaf by now: what was behind it had no user either.
            if (node->partition->epoch < epoch_) remove(*node);
        }
        node = parent;
    }
}

void PrefixTree::forget() {
    while (evict()) {
    }
    ++epoch_;
}

bool PrefixTree::evict() {
    if (by_age_.empty()) {
        ETALON_ASSERT(n_unused_ == 0);
        return false;
    }
    remove(*by_age_.begin()->second);
    return true;
}

void PrefixTree::remove(Node& leaf) {
    ETALON_ASSERT(leaf.users == 0);
    ETALON_ASSERT(leaf.children.empty());
    by_age_.erase(leaf.last_used);
    pool_->give_back(leaf.page);
    --n_pages_;
    --n_unused_;
    Node* parent = leaf.parent;
    if (parent != nullptr) {
        parent->children.erase(leaf.self);
        // Its own last use decides when it goes, not that of the page that is gone.
        if (parent->users == 0 && parent->children.empty()) {
            by_age_.emplace(parent->last_used, parent);
        }
        return;
    }
    const auto root = roots_.find(*leaf.partition);
    root->second.erase(leaf.self);
    if (root->second.empty()) roots_.erase(root);
}

}  // namespace etalon::engine
