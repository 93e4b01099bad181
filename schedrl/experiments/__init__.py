"""What the papers' experiments share: how runs are driven and watched, sampled and judged."""
