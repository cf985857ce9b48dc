// What a kernel is told: one structure, passed by value. unet/loss/launch.py fills it; its fields stand in this order.
#pragma once

enum Reduction { SUM = 0, MEAN = 1, WEIGHTED_MEAN = 2 };

struct Params {
    const void* logits;
    void* gradient;
    const void* target;
    const float* weight;           // null: 1 everywhere
    const unsigned char* valid;    // null: all pixels are valid; 0: the pixel carries no loss
    const float* upstream;         // gradient of the loss, a scalar
    float* partial_losses;         // one per chunk: sum of weight * loss
    float* partial_shares;         // one per chunk: number of valid pixels, or sum of their weights
    unsigned* block_confusions;    // [classes * classes][blocks], null for many classes
    unsigned long long* confusion; // classes * classes, [target][predicted]
    float* loss;
    float* denominator;
    // Elements between neighbours along image, class, row, column; for the arrays without classes image, row, column.
    long long logits_stride[4];
    long long gradient_stride[4];
    long long target_stride[3];
    long long weight_stride[3];
    long long valid_stride[3];
    long long rows;                // of an image
    long long columns;
    long long items;               // packs of pixels, or pixels, in all
    long long items_per_run;       // a run: pixels that lie one behind the other, an image or all images
    long long run_length;          // pixels
    long long phase;               // the first pack of a run starts this many pixels before the run
    long long whole_begin;         // packs whole_begin .. whole_end-1 of a run are whole and aligned in every array
    long long whole_end;
    long long chunks;              // fixed portions of the items, each summed by one block
    long long ignore_index;
    int items_per_thread;          // in a chunk
    int classes;
    int reduction;
    int skip_if_one;               // the gradient for an upstream gradient of 1 is there already: write only for another
    int blocks;                    // that wrote block_confusions
    int unused;
};
